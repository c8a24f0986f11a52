# A model server on Container Apps, on processors or on machines with GPUs, behind its own front end.

locals {
  gpu      = var.accelerators > 0
  open     = var.keys_secret != ""
  image    = var.image != "" ? var.image : "${azurerm_container_registry.images.login_server}/${var.tag}"
  paths    = { state = "/var/lib/arsenal", cache = "/var/cache/arsenal", scratch = "/tmp" }
  short    = substr(replace("${var.name}${var.env}", "-", ""), 0, 16)
  unique   = substr(sha256("${var.subscription}/${var.name}/${var.env}"), 0, 6)
  contacts = [var.email]
}

resource "azurerm_resource_group" "here" {
  name     = "${var.name}-${var.env}"
  location = var.location
  tags     = var.labels
}

# In production nothing in the group is deleted while this is there. What lies in the group depends on it, so that
# terraform, too, comes to it last.
resource "azurerm_management_lock" "here" {
  count      = var.env == "production" ? 1 : 0
  name       = "keep"
  scope      = azurerm_resource_group.here.id
  lock_level = "CanNotDelete"
  notes      = "${var.name} in production; delete this lock before what it keeps"
}

resource "azurerm_container_registry" "images" {
  # checkov:skip=CKV_AZURE_233:zones where it is production
  # checkov:skip=CKV_AZURE_164:images are signed by cosign, of which content trust knows nothing
  # checkov:skip=CKV_AZURE_165:one region serves
  # checkov:skip=CKV_AZURE_166:images are scanned before they are pushed; a quarantine would need its own scanner
  # checkov:skip=CKV_AZURE_139:workflows push from outside by an identity without a key
  name                          = "${local.short}${local.unique}"
  resource_group_name           = azurerm_resource_group.here.name
  location                      = azurerm_resource_group.here.location
  sku                           = "Premium"
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  zone_redundancy_enabled       = var.env == "production"
  retention_policy_in_days      = 30
  public_network_access_enabled = true
  data_endpoint_enabled         = true
  tags                          = var.labels

  depends_on = [azurerm_management_lock.here]
}

resource "azurerm_storage_account" "files" {
  # checkov:skip=CKV_AZURE_59:no container is public, and no key is accepted
  # checkov:skip=CKV_AZURE_43:the name is made of letters and digits below
  # checkov:skip=CKV_AZURE_33:there are no queues
  # checkov:skip=CKV2_AZURE_33:identities alone are accepted; a private endpoint is the network's owner's to add
  # checkov:skip=CKV2_AZURE_1:encrypted with Microsoft's keys; models are made again from their registry
  name                            = "${local.short}${local.unique}"
  resource_group_name             = azurerm_resource_group.here.name
  location                        = azurerm_resource_group.here.location
  account_tier                    = "Standard"
  account_replication_type        = var.env == "production" ? "GZRS" : "LRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  shared_access_key_enabled       = false
  local_user_enabled              = false
  allow_nested_items_to_be_public = false
  default_to_oauth_authentication = true
  tags                            = var.labels

  blob_properties {
    versioning_enabled = true

    delete_retention_policy {
      days = 30
    }

    container_delete_retention_policy {
      days = 30
    }
  }

  depends_on = [azurerm_management_lock.here]
}

resource "azurerm_storage_container" "files" {
  # checkov:skip=CKV2_AZURE_21:diagnostic settings are the workspace's owner's to choose
  name                  = "files"
  storage_account_id    = azurerm_storage_account.files.id
  container_access_type = "private"
}

resource "azurerm_log_analytics_workspace" "server" {
  name                = "${var.name}-${var.env}"
  resource_group_name = azurerm_resource_group.here.name
  location            = azurerm_resource_group.here.location
  sku                 = "PerGB2018"
  retention_in_days   = max(var.log_days, 30)
  tags                = var.labels

  depends_on = [azurerm_management_lock.here]
}

# Who may do what: the server pulls its image, reads its files and its keys; GitHub pushes images. Nobody has a key that lasts.
resource "azurerm_user_assigned_identity" "server" {
  name                = "${var.name}-${var.env}-server"
  resource_group_name = azurerm_resource_group.here.name
  location            = azurerm_resource_group.here.location
  tags                = var.labels

  depends_on = [azurerm_management_lock.here]
}

resource "azurerm_role_assignment" "pull" {
  scope                = azurerm_container_registry.images.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.server.principal_id
}

resource "azurerm_role_assignment" "files" {
  scope                = azurerm_storage_account.files.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = azurerm_user_assigned_identity.server.principal_id
}

resource "azurerm_role_assignment" "keys" {
  count                = local.open ? 1 : 0
  scope                = "${var.key_vault}/secrets/${var.keys_secret}"
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.server.principal_id
}

resource "azurerm_user_assigned_identity" "push" {
  count               = var.repository != "" ? 1 : 0
  name                = "${var.name}-${var.env}-push"
  resource_group_name = azurerm_resource_group.here.name
  location            = azurerm_resource_group.here.location
  tags                = var.labels

  depends_on = [azurerm_management_lock.here]
}

resource "azurerm_federated_identity_credential" "github" {
  count               = var.repository != "" ? 1 : 0
  name                = "github"
  resource_group_name = azurerm_resource_group.here.name
  parent_id           = azurerm_user_assigned_identity.push[0].id
  audience            = ["api://AzureADTokenExchange"]
  issuer              = "https://token.actions.githubusercontent.com"
  subject             = "repo:${var.repository}:environment:${var.env}"
}

resource "azurerm_role_assignment" "push" {
  count                = var.repository != "" ? 1 : 0
  scope                = azurerm_container_registry.images.id
  role_definition_name = "AcrPush"
  principal_id         = azurerm_user_assigned_identity.push[0].principal_id
}

# The server. One port has an ingress, so metrics are open to nobody.
resource "azurerm_container_app_environment" "here" {
  name                       = "${var.name}-${var.env}"
  resource_group_name        = azurerm_resource_group.here.name
  location                   = azurerm_resource_group.here.location
  log_analytics_workspace_id = azurerm_log_analytics_workspace.server.id
  logs_destination           = "log-analytics"
  tags                       = var.labels

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  dynamic "workload_profile" {
    for_each = local.gpu ? [var.profile] : []

    content {
      name                  = "gpu"
      workload_profile_type = workload_profile.value
      minimum_count         = var.least
      maximum_count         = var.most
    }
  }
}

resource "azurerm_container_app" "server" {
  count                        = var.serve ? 1 : 0
  name                         = "${var.name}-${var.env}"
  resource_group_name          = azurerm_resource_group.here.name
  container_app_environment_id = azurerm_container_app_environment.here.id
  revision_mode                = "Single"
  workload_profile_name        = local.gpu ? "gpu" : "Consumption"
  tags                         = var.labels

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.server.id]
  }

  dynamic "registry" {
    for_each = var.image == "" ? [azurerm_container_registry.images.login_server] : []

    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.server.id
    }
  }

  dynamic "secret" {
    for_each = local.open ? [var.keys_secret] : []

    content {
      name                = "keys.json"
      identity            = azurerm_user_assigned_identity.server.id
      key_vault_secret_id = "https://${element(split("/", var.key_vault), 8)}.vault.azure.net/secrets/${secret.value}"
    }
  }

  ingress {
    external_enabled           = local.open
    allow_insecure_connections = false
    target_port                = var.port
    transport                  = "auto"

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas                     = var.least
    max_replicas                     = var.most
    termination_grace_period_seconds = var.grace

    container {
      name   = "server"
      image  = local.image
      args   = var.words
      cpu    = var.cpu
      memory = "${var.memory / 1024}Gi"

      env {
        name  = "XDG_CACHE_HOME"
        value = "/var/cache/arsenal"
      }

      startup_probe {
        transport               = "HTTP"
        path                    = "/v2/health/ready"
        port                    = var.port
        interval_seconds        = ceil(var.start / 30)
        timeout                 = 2
        failure_count_threshold = 30
      }

      readiness_probe {
        transport               = "HTTP"
        path                    = "/v2/health/ready"
        port                    = var.port
        interval_seconds        = 5
        timeout                 = 2
        failure_count_threshold = 2
      }

      liveness_probe {
        transport               = "HTTP"
        path                    = "/v2/health/live"
        port                    = var.port
        interval_seconds        = 10
        timeout                 = 5
        failure_count_threshold = 3
      }

      dynamic "volume_mounts" {
        for_each = merge(local.paths, local.open ? { keys = "/run/secrets" } : {})

        content {
          name = volume_mounts.key
          path = volume_mounts.value
        }
      }
    }

    dynamic "volume" {
      for_each = merge({ for name, path in local.paths : name => "EmptyDir" }, local.open ? { keys = "Secret" } : {})

      content {
        name         = volume.key
        storage_type = volume.value
      }
    }

    custom_scale_rule {
      name             = "cpu"
      custom_rule_type = "cpu"
      metadata         = { type = "Utilization", value = tostring(var.cpu_target) }
    }
  }

  depends_on = [azurerm_role_assignment.pull, azurerm_role_assignment.keys]
}

resource "azurerm_consumption_budget_resource_group" "month" {
  name              = "${var.name}-${var.env}"
  resource_group_id = azurerm_resource_group.here.id
  amount            = var.budget
  time_grain        = "Monthly"

  time_period {
    start_date = formatdate("YYYY-MM-01'T'00:00:00'Z'", plantimestamp())
  }

  dynamic "notification" {
    for_each = { Actual = 80, Forecasted = 100 }

    content {
      operator       = "GreaterThan"
      threshold      = notification.value
      threshold_type = notification.key
      contact_emails = local.contacts
    }
  }

  lifecycle {
    ignore_changes = [time_period]
  }

  depends_on = [azurerm_management_lock.here]
}
