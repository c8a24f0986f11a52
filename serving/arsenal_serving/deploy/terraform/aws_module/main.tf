# A model server on ECS: Fargate, or a pool of instances with GPUs, behind a load balancer.

data "aws_caller_identity" "here" {}
data "aws_partition" "here" {}
data "aws_region" "here" {}

data "aws_vpc" "here" {
  id = var.vpc
}

locals {
  account    = data.aws_caller_identity.here.account_id
  region     = data.aws_region.here.region
  gpu        = var.accelerators > 0
  public     = var.certificate != ""
  callers    = length(var.callers) > 0 ? var.callers : local.public ? ["0.0.0.0/0"] : [data.aws_vpc.here.cidr_block]
  production = var.env == "production"
  image      = var.image != "" ? var.image : "${aws_ecr_repository.images.repository_url}:${var.tag}"
  paths      = { state = "/var/lib/arsenal", cache = "/var/cache/arsenal", scratch = "/tmp" }
  keys       = var.keys_secret != "" ? { secrets = "/run/secrets" } : {}
  nowhere    = [{ name = "ARSENAL_KEYS", valueFrom = join("", data.aws_secretsmanager_secret.keys[*].arn) }]
}

# One key for what is kept: images, logs, files.
data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109:in a key's own policy * is that key, and the account's root may manage it as AWS asks
  # checkov:skip=CKV_AWS_111:in a key's own policy * is that key, and the account's root may manage it as AWS asks
  # checkov:skip=CKV_AWS_356:in a key's own policy * is that key, and the account's root may manage it as AWS asks
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.here.partition}:iam::${local.account}:root"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${local.region}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${data.aws_partition.here.partition}:logs:${local.region}:${local.account}:log-group:/arsenal/${var.name}-${var.env}"]
    }
  }
}

resource "aws_kms_key" "kept" {
  description         = "What ${var.name} in ${var.env} keeps"
  enable_key_rotation = true
  policy              = data.aws_iam_policy_document.key.json
}

resource "aws_ecr_repository" "images" {
  name                 = "arsenal/${var.name}-${var.env}"
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !local.production

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.kept.arn
  }
}

resource "aws_ecr_lifecycle_policy" "images" {
  repository = aws_ecr_repository.images.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "The last 30"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 30 }
      action       = { type = "expire" }
    }]
  })
}

resource "aws_s3_bucket" "files" {
  # checkov:skip=CKV_AWS_18:CloudTrail's data events say who read what
  # checkov:skip=CKV_AWS_144:models are made again from their registry
  # checkov:skip=CKV2_AWS_62:nobody waits for files
  bucket        = "arsenal-${var.name}-${var.env}-${local.account}"
  force_destroy = !local.production
}

resource "aws_s3_bucket_public_access_block" "files" {
  bucket                  = aws_s3_bucket.files.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "files" {
  bucket = aws_s3_bucket.files.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "files" {
  bucket = aws_s3_bucket.files.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.kept.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "files" {
  bucket = aws_s3_bucket.files.id

  rule {
    id     = "old"
    status = "Enabled"

    filter {
      prefix = ""
    }

    noncurrent_version_expiration {
      noncurrent_days = 90
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.files.arn, "${aws_s3_bucket.files.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "files" {
  bucket = aws_s3_bucket.files.id
  policy = data.aws_iam_policy_document.tls_only.json
}

resource "aws_cloudwatch_log_group" "server" {
  name              = "/arsenal/${var.name}-${var.env}"
  retention_in_days = var.log_days
  kms_key_id        = aws_kms_key.kept.arn
}

# The API keys: a secret that somebody made, by its name. Its content is never read here.
data "aws_secretsmanager_secret" "keys" {
  count = var.keys_secret != "" ? 1 : 0
  name  = var.keys_secret
}

# Who may do what: ECS starts the task, the task reads its files, GitHub pushes images.
data "aws_iam_policy_document" "by_ecs" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_role" "start" {
  name               = "${var.name}-${var.env}-start"
  assume_role_policy = data.aws_iam_policy_document.by_ecs.json
}

resource "aws_iam_role_policy_attachment" "start" {
  role       = aws_iam_role.start.name
  policy_arn = "arn:${data.aws_partition.here.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "start" {
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.kept.arn]
  }

  dynamic "statement" {
    for_each = data.aws_secretsmanager_secret.keys

    content {
      sid       = "Keys"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value.arn]
    }
  }
}

resource "aws_iam_role_policy" "start" {
  name   = "start"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.start.json
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-${var.env}-task"
  assume_role_policy = data.aws_iam_policy_document.by_ecs.json
}

data "aws_iam_policy_document" "task" {
  statement {
    sid       = "Files"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.files.arn}/*"]
  }

  statement {
    sid       = "Names"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.files.arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.kept.arn]
  }
}

resource "aws_iam_role_policy" "task" {
  name   = "files"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}

# An account has one of GitHub, which all deployments share: it is read here, not made, and so stays when this goes.
data "aws_iam_openid_connect_provider" "github" {
  count = var.repository != "" ? 1 : 0
  url   = "https://token.actions.githubusercontent.com"
}

data "aws_iam_policy_document" "by_github" {
  count = var.repository != "" ? 1 : 0

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [data.aws_iam_openid_connect_provider.github[0].arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = ["repo:${var.repository}:environment:${var.env}"]
    }
  }
}

resource "aws_iam_role" "push" {
  count              = var.repository != "" ? 1 : 0
  name               = "${var.name}-${var.env}-push"
  assume_role_policy = data.aws_iam_policy_document.by_github[0].json
}

data "aws_iam_policy_document" "push" {
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
    ]
    resources = [aws_ecr_repository.images.arn]
  }
}

resource "aws_iam_role_policy" "push" {
  count  = var.repository != "" ? 1 : 0
  name   = "push"
  role   = aws_iam_role.push[0].id
  policy = data.aws_iam_policy_document.push.json
}

# The way in. The port of metrics is open to nobody.
resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-${var.env}-balancer-"
  description = "Calls to ${var.name} in ${var.env}"
  vpc_id      = var.vpc

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "task" {
  name_prefix = "${var.name}-${var.env}-task-"
  description = "The server of ${var.name} in ${var.env}"
  vpc_id      = var.vpc

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "calls" {
  for_each          = toset(local.callers)
  description       = "Calls"
  security_group_id = aws_security_group.balancer.id
  cidr_ipv4         = each.value
  from_port         = local.public ? 443 : 80
  to_port           = local.public ? 443 : 80
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "calls" {
  description                  = "Calls to the server"
  security_group_id            = aws_security_group.balancer.id
  referenced_security_group_id = aws_security_group.task.id
  from_port                    = var.port
  to_port                      = var.port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_ingress_rule" "server" {
  description                  = "Calls from the load balancer"
  security_group_id            = aws_security_group.task.id
  referenced_security_group_id = aws_security_group.balancer.id
  from_port                    = var.port
  to_port                      = var.port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "server" {
  description       = "Images, secrets, logs and files, all by TLS"
  security_group_id = aws_security_group.task.id
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_lb" "calls" {
  # checkov:skip=CKV_AWS_91:the server logs its requests itself, a share of them and without what is redacted
  # checkov:skip=CKV2_AWS_28:who calls has an API key and a rate; a firewall is the account's to add by the load balancer's ARN
  name_prefix                = "arsnl-"
  internal                   = !local.public
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.balancer.id]
  subnets                    = local.public ? var.public_subnets : var.private_subnets
  drop_invalid_header_fields = true
  enable_deletion_protection = local.production
}

resource "aws_lb_target_group" "server" {
  name_prefix          = "arsnl-"
  vpc_id               = var.vpc
  target_type          = "ip"
  port                 = var.port
  protocol             = "HTTP"
  deregistration_delay = var.detach

  health_check {
    path                = "/v2/health/ready"
    matcher             = "200"
    interval            = 5
    timeout             = 4
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener" "calls" {
  load_balancer_arn = aws_lb.calls.arn
  port              = local.public ? 443 : 80
  protocol          = local.public ? "HTTPS" : "HTTP"
  ssl_policy        = local.public ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null
  certificate_arn   = local.public ? var.certificate : null

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.server.arn
  }
}

# The server.
resource "aws_ecs_cluster" "here" {
  name = "${var.name}-${var.env}"

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "here" {
  cluster_name       = aws_ecs_cluster.here.name
  capacity_providers = concat(["FARGATE"], aws_ecs_capacity_provider.gpu[*].name)

  default_capacity_provider_strategy {
    capacity_provider = local.gpu ? aws_ecs_capacity_provider.gpu[0].name : "FARGATE"
    weight            = 1
  }
}

resource "aws_ecs_task_definition" "server" {
  family                   = "${var.name}-${var.env}"
  requires_compatibilities = [local.gpu ? "EC2" : "FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.start.arn
  task_role_arn            = aws_iam_role.task.arn

  dynamic "volume" {
    for_each = merge(local.paths, local.keys)

    content {
      name = volume.key
    }
  }

  # ECS gives secrets as variables only. A container that ends at once writes the keys where the server reads them.
  container_definitions = jsonencode(concat(
    var.keys_secret == "" ? [] : [{
      name      = "keys"
      image     = local.image
      essential = false
      user      = "65532:65532"
      entryPoint = ["python", "-c", join("; ", [
        "import os", "handle = os.open('/run/secrets/keys.json', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)",
        "os.write(handle, os.environ['ARSENAL_KEYS'].encode())",
      ])]
      command                = []
      readonlyRootFilesystem = true
      secrets                = local.nowhere
      mountPoints            = [{ sourceVolume = "secrets", containerPath = "/run/secrets", readOnly = false }]
      logConfiguration       = local.logs
    }],
    [{
      name                   = "server"
      image                  = local.image
      essential              = true
      command                = var.words
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      stopTimeout            = min(var.grace, 120)
      portMappings           = [{ containerPort = var.port, protocol = "tcp" }]
      dependsOn              = [for name in keys(local.keys) : { containerName = "keys", condition = "SUCCESS" }]
      resourceRequirements   = local.gpu ? [{ type = "GPU", value = tostring(var.accelerators) }] : []
      linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
      environment            = [{ name = "XDG_CACHE_HOME", value = "/var/cache/arsenal" }]
      mountPoints = concat(
        [for name, path in local.paths : { sourceVolume = name, containerPath = path, readOnly = false }],
        [for name, path in local.keys : { sourceVolume = name, containerPath = path, readOnly = true }],
      )
      logConfiguration = local.logs
    }],
  ))
}

locals {
  logs = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.server.name
      awslogs-region        = local.region
      awslogs-stream-prefix = "server"
    }
  }
}

resource "aws_ecs_service" "server" {
  count                              = var.serve ? 1 : 0
  name                               = var.name
  cluster                            = aws_ecs_cluster.here.id
  task_definition                    = aws_ecs_task_definition.server.arn
  desired_count                      = var.least
  health_check_grace_period_seconds  = var.start
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  wait_for_steady_state              = true
  propagate_tags                     = "SERVICE"

  capacity_provider_strategy {
    capacity_provider = local.gpu ? aws_ecs_capacity_provider.gpu[0].name : "FARGATE"
    weight            = 1
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.private_subnets
    security_groups  = [aws_security_group.task.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.server.arn
    container_name   = "server"
    container_port   = var.port
  }

  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.calls, aws_ecs_cluster_capacity_providers.here, aws_iam_role_policy.start]
}

resource "aws_appautoscaling_target" "server" {
  count              = var.serve ? 1 : 0
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.here.name}/${aws_ecs_service.server[0].name}"
  min_capacity       = var.least
  max_capacity       = var.most
}

resource "aws_appautoscaling_policy" "cpu" {
  count              = var.serve ? 1 : 0
  name               = "${var.name}-${var.env}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.server[0].service_namespace
  scalable_dimension = aws_appautoscaling_target.server[0].scalable_dimension
  resource_id        = aws_appautoscaling_target.server[0].resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.cpu_target
    scale_in_cooldown  = 300
    scale_out_cooldown = 30

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

# The pool with GPUs, where the model asks for them.
data "aws_ssm_parameter" "gpu_image" {
  count = local.gpu ? 1 : 0
  name  = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
}

data "aws_iam_policy_document" "by_instance" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "instance" {
  count              = local.gpu ? 1 : 0
  name               = "${var.name}-${var.env}-instance"
  assume_role_policy = data.aws_iam_policy_document.by_instance.json
}

resource "aws_iam_role_policy_attachment" "instance" {
  count      = local.gpu ? 1 : 0
  role       = aws_iam_role.instance[0].name
  policy_arn = "arn:${data.aws_partition.here.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_instance_profile" "gpu" {
  count = local.gpu ? 1 : 0
  name  = "${var.name}-${var.env}-gpu"
  role  = aws_iam_role.instance[0].name
}

resource "aws_launch_template" "gpu" {
  count                  = local.gpu ? 1 : 0
  name_prefix            = "${var.name}-${var.env}-gpu-"
  image_id               = data.aws_ssm_parameter.gpu_image[0].value
  instance_type          = var.instance_type
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.task.id]
  user_data              = base64encode("#!/bin/bash\necho ECS_CLUSTER=${aws_ecs_cluster.here.name} >> /etc/ecs/ecs.config\n")

  iam_instance_profile {
    arn = aws_iam_instance_profile.gpu[0].arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size           = 100
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }
}

resource "aws_autoscaling_group" "gpu" {
  count                 = local.gpu ? 1 : 0
  name_prefix           = "${var.name}-${var.env}-gpu-"
  vpc_zone_identifier   = var.private_subnets
  min_size              = 0
  max_size              = var.most
  protect_from_scale_in = true

  launch_template {
    id      = aws_launch_template.gpu[0].id
    version = aws_launch_template.gpu[0].latest_version
  }

  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

resource "aws_ecs_capacity_provider" "gpu" {
  count = local.gpu ? 1 : 0
  name  = "${var.name}-${var.env}-gpu"

  auto_scaling_group_provider {
    auto_scaling_group_arn         = aws_autoscaling_group.gpu[0].arn
    managed_termination_protection = "ENABLED"

    managed_scaling {
      status          = "ENABLED"
      target_capacity = 100
    }
  }
}

resource "aws_budgets_budget" "month" {
  name         = "${var.name}-${var.env}"
  budget_type  = "COST"
  limit_amount = format("%.2f", var.budget)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:arsenal-deployment$%s-%s", var.name, var.env)]
  }

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      notification_type          = notification.key
      subscriber_email_addresses = [var.email]
    }
  }
}
