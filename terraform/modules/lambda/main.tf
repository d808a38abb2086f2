# One machine at Lambda that becomes a worker through its user data. On demand: Lambda has neither spot nor stopped
# machines. Only the API's terminate call stops the charges, and only `terraform destroy` makes it; a shutdown does not.
#
# Mastercard/restapi launches the machine, since the providers for Lambda do not support user_data. It must never
# terminate one: it substitutes {id} only in paths, so the API would answer 404 and restapi would report the machine as
# destroyed. Its destroy method is therefore a harmless GET, and ../lambda-ending terminates machines, in two ways: by
# id, and by a tag that was chosen before the launch.

locals {
  request = merge(
    {
      name               = var.name
      region_name        = var.region
      instance_type_name = var.instance_type
      ssh_key_names      = [var.ssh_key_name]
      user_data          = module.user_data.cloud_config
    },
    var.hostname == null ? {} : { hostname = var.hostname },
    var.image_id == null ? {} : { image = { id = var.image_id } },
    var.image_family == null ? {} : { image = { family = var.image_family } },
    length(var.file_system_names) == 0 ? {} : { file_system_names = var.file_system_names },
    length(var.firewall_ruleset_ids) == 0 ? {} : { firewall_rulesets = [for id in var.firewall_ruleset_ids : { id = id }] },
  )
  nonce = terraform_data.launch.output

  # The API's last response: to the launch at first, and the machine's state from the next refresh on.
  seen = try(jsondecode(restapi_object.machine.api_response).data, {})
}

# One per launch. To launch a new machine: terraform apply -replace=module.NAME.terraform_data.launch
resource "terraform_data" "launch" {
  # The nonce with which the machine proves its host key (docs/adr/0008), and the tag by which a lost launch is found.
  input            = uuid()
  triggers_replace = sha256(jsonencode(local.request))

  lifecycle {
    ignore_changes = [input]
  }
}

# Created before the launch and destroyed last: terminates the machine even if the launch response was lost.
module "ending_by_tag" {
  source = "../lambda-ending"

  tag     = local.nonce
  api_url = var.api_url
}

resource "restapi_object" "machine" {
  path           = "/instances"
  create_path    = "/instance-operations/launch"
  id_attribute   = "data/instance_ids/0"
  update_method  = "GET"
  destroy_method = "GET"
  # Fields that the API adds (status, address) do not count as drift.
  ignore_server_additions = true

  data = jsonencode(merge(local.request, {
    user_data = replace(local.request.user_data, local.placeholder, local.nonce)
    tags      = concat([{ key = "beta9-machine", value = module.ending_by_tag.what }], [for key, value in var.tags : { key = key, value = value }])
  }))

  lifecycle {
    replace_triggered_by = [terraform_data.launch]

    postcondition {
      condition     = self.id != "" && !contains(["terminating", "terminated", "preempted"], try(jsondecode(self.api_response).data.status, "booting"))
      error_message = "The machine is gone: Lambda's API no longer knows it, or reports it as terminated. To launch another: terraform apply -replace=module.NAME.terraform_data.launch (NAME: this module's name in your configuration). To clean up: terraform destroy."
    }
  }
}

module "ending_by_id" {
  source = "../lambda-ending"

  instance_id = restapi_object.machine.id
  api_url     = var.api_url
}

module "push_secrets" {
  source = "../push-secrets"
  count  = var.token_file == null && !module.source.is_needed ? 0 : 1

  machine            = module.ending_by_id.what
  lambda_instance_id = module.ending_by_id.what
  lambda_api_url     = var.api_url
  login_user         = var.login_user
  login_key_file     = var.login_key_file
  host_key           = var.host_key
  nonce              = local.nonce
  known_hosts_file   = local.known_hosts_file
  token_file         = var.token_file
  tunnel_key_file    = var.tunnel_key_file
  source_tarball     = module.source.tarball
  revision           = var.secrets_revision
}

locals {
  known_hosts_file = coalesce(var.known_hosts_file, "${path.root}/${var.name}.known_hosts")
}
