variable "name" {
  description = "The deployment's name, of all that belongs to it."
  type        = string
}

variable "env" {
  description = "development, staging or production; production is kept from being destroyed."
  type        = string
}

variable "image" {
  description = "A reference as docker pull takes it; empty for TAG of the registry that is made here."
  type        = string
}

variable "tag" {
  description = "The image's name and tag in the registry that is made here."
  type        = string
}

variable "serve" {
  description = "Whether the service runs; false makes the registry first, so that an image can be pushed to it."
  type        = bool
}

variable "words" {
  description = "The words of arsenal-serve."
  type        = list(string)
}

variable "port" {
  description = "Where the server answers."
  type        = number
}

variable "cpu" {
  description = "Cores of a replica."
  type        = number
}

variable "memory" {
  description = "MiB of a replica."
  type        = number
}

variable "accelerators" {
  description = "GPUs of a replica; more than 0 takes the pool with GPUs."
  type        = number
}

variable "least" {
  description = "Replicas at least."
  type        = number
}

variable "most" {
  description = "Replicas at most."
  type        = number
}

variable "start" {
  description = "Seconds in which a replica is ready."
  type        = number
}

variable "keys_secret" {
  description = "Name of the secret that holds the API keys; empty for none, and nobody calls from outside."
  type        = string
}

variable "labels" {
  description = "Of all that takes them."
  type        = map(string)
}

variable "repository" {
  description = "OWNER/NAME on GitHub whose workflows may push images; empty for none."
  type        = string
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
}

variable "budget" {
  description = "An amount a month, in the account's currency, that an alarm is about."
  type        = number
}

variable "email" {
  description = "Who hears of the budget."
  type        = string
}

variable "project" {
  description = "The project's identifier."
  type        = string
}

variable "region" {
  description = "As europe-west1."
  type        = string
}

variable "billing_account" {
  description = "Whose budget it is, as 012345-6789AB-CDEF01."
  type        = string
}

variable "scratch" {
  description = "MiB of memory for each of a replica's volatile folders."
  type        = number
}

variable "accelerator" {
  description = "Kind of GPU that Cloud Run has, as nvidia-l4."
  type        = string
}

variable "host" {
  description = "A domain of one's own that is verified in the project; empty for none."
  type        = string
}
