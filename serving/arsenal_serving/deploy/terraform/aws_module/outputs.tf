output "image_registry" {
  description = "Where images are pushed: the repository's address, without a tag."
  value       = aws_ecr_repository.images.repository_url
}

output "cluster" {
  description = "The cluster's name."
  value       = aws_ecs_cluster.here.name
}

output "bucket" {
  description = "The bucket's URL."
  value       = "s3://${aws_s3_bucket.files.bucket}"
}

output "url" {
  description = "Where calls go; a name of one's own is a CNAME of it."
  value       = "${local.public ? "https" : "http"}://${aws_lb.calls.dns_name}"
}

output "push_role" {
  description = "The role that GitHub's workflows assume; empty for none."
  value       = join("", aws_iam_role.push[*].arn)
}
