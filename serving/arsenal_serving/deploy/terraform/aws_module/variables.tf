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
  description = "The tag in the registry that is made here."
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
  description = "Units of a task, 1024 of a core."
  type        = number
}

variable "memory" {
  description = "MiB of a task."
  type        = number
}

variable "accelerators" {
  description = "GPUs of a task; more than 0 makes a pool of instances with GPUs, else tasks are on Fargate."
  type        = number
}

variable "instance_type" {
  description = "Of the pool with GPUs."
  type        = string
}

variable "least" {
  description = "Tasks at least."
  type        = number
}

variable "most" {
  description = "Tasks at most."
  type        = number
}

variable "cpu_target" {
  description = "Percent of a task's cores above which there is another."
  type        = number
}

variable "start" {
  description = "Seconds in which a task is ready."
  type        = number
}

variable "detach" {
  description = "Seconds that the load balancer lets calls end in."
  type        = number
}

variable "grace" {
  description = "Seconds from being told to stop to the kill."
  type        = number
}

variable "keys_secret" {
  description = "Name of the secret in Secrets Manager that holds the API keys; empty for none."
  type        = string
}

variable "vpc" {
  description = "Identifier of the VPC."
  type        = string
}

variable "private_subnets" {
  description = "Of the tasks, in two zones or more, with a way to the registry (NAT or endpoints)."
  type        = list(string)
}

variable "public_subnets" {
  description = "Of the load balancer, where there is a certificate."
  type        = list(string)
}

variable "callers" {
  description = "Ranges of addresses that may call; empty for the VPC's, and for all where there is a certificate."
  type        = list(string)
}

variable "certificate" {
  description = "ARN of a certificate in ACM: a public load balancer with HTTPS; empty for an internal one with HTTP."
  type        = string
}

variable "repository" {
  description = "OWNER/NAME on GitHub whose workflows may push images and deploy; empty for none."
  type        = string
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
}

variable "budget" {
  description = "US dollars a month that an alarm is about."
  type        = number
}

variable "email" {
  description = "Who hears of the budget."
  type        = string
}
