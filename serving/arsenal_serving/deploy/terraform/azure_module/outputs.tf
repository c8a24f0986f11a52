output "image_registry" {
  description = "Where images are pushed: the registry's address, before the image's name."
  value       = azurerm_container_registry.images.login_server
}

output "cluster" {
  description = "The environment's name."
  value       = azurerm_container_app_environment.here.name
}

output "bucket" {
  description = "The container's URL."
  value       = "abfs://${azurerm_storage_container.files.name}@${azurerm_storage_account.files.name}.dfs.core.windows.net"
}

output "url" {
  description = "Where calls go; empty before it serves."
  value       = join("", [for app in azurerm_container_app.server : "https://${app.ingress[0].fqdn}"])
}

output "push_identity" {
  description = "The client that GitHub's workflows name; empty for none."
  value       = join("", azurerm_user_assigned_identity.push[*].client_id)
}
