# One machine at Lambda that becomes a worker by its user data. On demand: Lambda has no spot machines and no stopped
# ones. The bill ends by the API's call to terminate alone, which only `terraform destroy` makes; a shutdown does not.
#
# Mastercard/restapi launches, since Lambda's own providers offer no user_data, and must never terminate: it replaces
# {id} in paths only, the API would answer 404, and restapi would report the machine as destroyed. So its destroy
# method is a harmless GET, and ../lambda-ending ends machines, twice: by the id, and by a tag from before the launch.

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

  # What the API said last: of the launch at first, of the machine from the next refresh on.
  seen = try(jsondecode(restapi_object.machine.api_response).data, {})
}

# One for each launch. To get a new machine: terraform apply -replace=module.NAME.terraform_data.launch
resource "terraform_data" "launch" {
  # The nonce by which the machine's host key is known (docs/adr/0008), and the tag by which a lost launch is found.
  input            = uuid()
  triggers_replace = sha256(jsonencode(local.request))

  lifecycle {
    ignore_changes = [input]
  }
}

# Made before the launch and carried out after all else: ends what the launch left if nobody heard of it.
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
  # What the API adds (status, address) is no difference to what was asked for.
  ignore_server_additions = true

  data = jsonencode(merge(local.request, {
    user_data = replace(local.request.user_data, local.placeholder, local.nonce)
    tags      = concat([{ key = "beta9-machine", value = module.ending_by_tag.what }], [for key, value in var.tags : { key = key, value = value }])
  }))

  lifecycle {
    replace_triggered_by = [terraform_data.launch]

    postcondition {
      condition     = self.id != "" && !contains(["terminating", "terminated", "preempted"], try(jsondecode(self.api_response).data.status, "booting"))
      error_message = "The machine is gone: Lambda's API does not know it any more, or calls it ended. To launch another: terraform apply -replace=module.NAME.terraform_data.launch (NAME: what this module is called in your configuration). To be done with it: terraform destroy."
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
  count  = var.token_file == null ? 0 : 1

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
  revision           = var.secrets_revision
}

locals {
  known_hosts_file = coalesce(var.known_hosts_file, "${path.root}/${var.name}.known_hosts")
}
