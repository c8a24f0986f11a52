output "image_registry" {
  description = "Where images are pushed: the repository's address, before the image's name."
  value       = local.registry
}

output "cluster" {
  description = "The service's name."
  value       = "${var.name}-${var.env}"
}

output "bucket" {
  description = "The bucket's URL."
  value       = google_storage_bucket.files.url
}

output "url" {
  description = "Where calls go; empty before it serves."
  value       = join("", google_cloud_run_v2_service.server[*].uri)
}

output "push_identity" {
  description = "The provider and the account that GitHub's workflows name; empty for none."
  value       = join(" ", concat(google_iam_workload_identity_pool_provider.github[*].name, google_service_account.push[*].email))
}
