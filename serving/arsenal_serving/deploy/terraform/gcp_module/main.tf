# A model server on Cloud Run, on processors or with a GPU, behind Google's own front end.

locals {
  production = var.env == "production"
  open       = var.keys_secret != ""
  image      = var.image != "" ? var.image : "${local.registry}/${var.tag}"
  registry   = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
  paths      = { state = "/var/lib/arsenal", cache = "/var/cache/arsenal", scratch = "/tmp" }
  services = [
    "artifactregistry.googleapis.com", "billingbudgets.googleapis.com", "iamcredentials.googleapis.com", "logging.googleapis.com",
    "monitoring.googleapis.com", "run.googleapis.com", "secretmanager.googleapis.com", "sts.googleapis.com",
  ]
}

resource "google_project_service" "needed" {
  for_each           = toset(local.services)
  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84:encrypted with Google's keys; images hold no secrets
  project       = var.project
  location      = var.region
  repository_id = "arsenal-${var.name}-${var.env}"
  description   = "Images of ${var.name} in ${var.env}"
  format        = "DOCKER"
  labels        = var.labels

  # A tag that is immutable cannot be deleted, nor what it names: in production nothing goes by itself.
  docker_config {
    immutable_tags = local.production
  }

  cleanup_policies {
    id     = "old"
    action = "DELETE"

    condition {
      tag_state = "ANY"
    }
  }

  cleanup_policies {
    id     = "last"
    action = "KEEP"

    most_recent_versions {
      keep_count = 30
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_storage_bucket" "files" {
  # checkov:skip=CKV_GCP_62:data access audit logs say who read what
  project                     = var.project
  name                        = "arsenal-${var.name}-${var.env}-${var.project}"
  location                    = var.region
  labels                      = var.labels
  force_destroy               = !local.production
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  versioning {
    enabled = true
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }

    condition {
      days_since_noncurrent_time = 90
    }
  }
}

# Logs go by themselves to the project's default bucket; this one keeps the server's for as long as asked.
resource "google_logging_project_bucket_config" "server" {
  project        = var.project
  location       = var.region
  bucket_id      = "arsenal-${var.name}-${var.env}"
  description    = "Logs of ${var.name} in ${var.env}"
  retention_days = var.log_days
}

resource "google_logging_project_sink" "server" {
  project                = var.project
  name                   = "arsenal-${var.name}-${var.env}"
  destination            = "logging.googleapis.com/${google_logging_project_bucket_config.server.id}"
  filter                 = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}-${var.env}\""
  unique_writer_identity = true
}

# Who may do what: the server reads its files and its keys, GitHub pushes images. Nobody has a key that lasts.
resource "google_service_account" "server" {
  project      = var.project
  account_id   = "${var.name}-${var.env}"
  display_name = "The server of ${var.name} in ${var.env}"
}

resource "google_storage_bucket_iam_member" "server" {
  bucket = google_storage_bucket.files.name
  role   = "roles/storage.objectUser"
  member = google_service_account.server.member
}

data "google_secret_manager_secret" "keys" {
  count     = local.open ? 1 : 0
  project   = var.project
  secret_id = var.keys_secret
}

resource "google_secret_manager_secret_iam_member" "server" {
  count     = local.open ? 1 : 0
  project   = var.project
  secret_id = data.google_secret_manager_secret.keys[0].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.server.member
}

resource "google_iam_workload_identity_pool" "github" {
  count                     = var.repository != "" ? 1 : 0
  project                   = var.project
  workload_identity_pool_id = "${var.name}-${var.env}"
  description               = "Workflows of ${var.repository}"

  depends_on = [google_project_service.needed]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  # checkov:skip=CKV_GCP_125:the condition below names the repository and the environment, which checkov does not evaluate
  count                              = var.repository != "" ? 1 : 0
  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  attribute_condition                = "assertion.sub == 'repo:${var.repository}:environment:${var.env}'"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account" "push" {
  count        = var.repository != "" ? 1 : 0
  project      = var.project
  account_id   = "${var.name}-${var.env}-push"
  display_name = "Pushes images of ${var.name} in ${var.env}"
}

resource "google_service_account_iam_member" "push" {
  count              = var.repository != "" ? 1 : 0
  service_account_id = google_service_account.push[0].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/attribute.repository/${var.repository}"
}

resource "google_artifact_registry_repository_iam_member" "push" {
  count      = var.repository != "" ? 1 : 0
  project    = var.project
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.push[0].member
}

# The server. Cloud Run sends calls to one port, so metrics are open to nobody.
resource "google_cloud_run_v2_service" "server" {
  count               = var.serve ? 1 : 0
  project             = var.project
  name                = "${var.name}-${var.env}"
  location            = var.region
  labels              = var.labels
  ingress             = local.open ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = local.production

  template {
    service_account                  = google_service_account.server.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 80
    timeout                          = "300s"
    labels                           = var.labels
    gpu_zonal_redundancy_disabled    = var.accelerators > 0 ? true : null

    scaling {
      min_instance_count = var.least
      max_instance_count = var.most
    }

    dynamic "node_selector" {
      for_each = var.accelerators > 0 ? [var.accelerator] : []

      content {
        accelerator = node_selector.value
      }
    }

    containers {
      name  = "server"
      image = local.image
      args  = var.words

      ports {
        name           = "http1"
        container_port = var.port
      }

      resources {
        limits = merge(
          { cpu = tostring(var.cpu), memory = "${var.memory}Mi" },
          var.accelerators > 0 ? { "nvidia.com/gpu" = tostring(var.accelerators) } : {},
        )
        cpu_idle          = false
        startup_cpu_boost = true
      }

      env {
        name  = "XDG_CACHE_HOME"
        value = "/var/cache/arsenal"
      }

      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 1
        failure_threshold = ceil(var.start / 2)

        http_get {
          path = "/v2/health/ready"
          port = var.port
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3

        http_get {
          path = "/v2/health/live"
          port = var.port
        }
      }

      dynamic "volume_mounts" {
        for_each = local.paths

        content {
          name       = volume_mounts.key
          mount_path = volume_mounts.value
        }
      }

      dynamic "volume_mounts" {
        for_each = local.open ? ["keys"] : []

        content {
          name       = volume_mounts.value
          mount_path = "/run/secrets"
        }
      }
    }

    dynamic "volumes" {
      for_each = local.paths

      content {
        name = volumes.key

        empty_dir {
          medium     = "MEMORY"
          size_limit = "${var.scratch}Mi"
        }
      }
    }

    dynamic "volumes" {
      for_each = local.open ? ["keys"] : []

      content {
        name = volumes.value

        secret {
          secret = data.google_secret_manager_secret.keys[0].secret_id

          items {
            version = "latest"
            path    = "keys.json"
            mode    = 292 # 0444: the server's user reads it
          }
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  depends_on = [google_secret_manager_secret_iam_member.server]
}

# Who calls is asked by the server itself, for an API key; without keys nothing from outside comes this far.
resource "google_cloud_run_v2_service_iam_member" "calls" {
  count    = var.serve ? 1 : 0
  project  = var.project
  location = var.region
  name     = google_cloud_run_v2_service.server[0].name
  role     = "roles/run.invoker"
  member   = "allUsers"
}

resource "google_cloud_run_domain_mapping" "host" {
  count    = var.serve && var.host != "" ? 1 : 0
  project  = var.project
  location = var.region
  name     = var.host

  metadata {
    namespace = var.project
  }

  spec {
    route_name = google_cloud_run_v2_service.server[0].name
  }
}

data "google_project" "here" {
  project_id = var.project
}

resource "google_monitoring_notification_channel" "budget" {
  project      = var.project
  display_name = "Budget of ${var.name} in ${var.env}"
  type         = "email"
  labels       = { email_address = var.email }
}

resource "google_billing_budget" "month" {
  billing_account = var.billing_account
  display_name    = "${var.name}-${var.env}"

  budget_filter {
    projects = ["projects/${data.google_project.here.number}"]
    labels   = { arsenal-deployment = "${var.name}-${var.env}" }
  }

  amount {
    specified_amount {
      units = tostring(floor(var.budget))
    }
  }

  dynamic "threshold_rules" {
    for_each = { CURRENT_SPEND = 0.8, FORECASTED_SPEND = 1.0 }

    content {
      spend_basis       = threshold_rules.key
      threshold_percent = threshold_rules.value
    }
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.budget.id]
  }
}
