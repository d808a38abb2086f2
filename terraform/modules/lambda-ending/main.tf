# Terminates machines at Lambda on `terraform destroy`, which is the only thing that stops their charges.
#
# A script instead of a provider's delete: it succeeds only once the API reports the machine as terminated. If it fails,
# Terraform keeps the resource and thereby the machine's id. The API key comes from the environment variable
# REST_API_BEARER, so that it enters neither state nor plan.

locals {
  step = var.instance_id != null ? "end" : "end-tagged"
  what = var.instance_id != null ? var.instance_id : var.tag
}

resource "terraform_data" "ending" {
  # Another machine or tag replaces the resource: the old machine is terminated first.
  triggers_replace = [local.step, local.what, var.api_url]

  input = {
    step      = local.step
    what      = local.what
    api_url   = var.api_url
    timeout_s = tostring(var.timeout_s)
  }

  provisioner "local-exec" {
    when    = destroy
    command = "python3 '${path.module}/../../lib/lambda_api.py' \"$STEP\" \"$WHAT\""
    environment = {
      STEP             = self.output.step
      WHAT             = self.output.what
      LAMBDA_API       = self.output.api_url
      LAMBDA_TIMEOUT_S = self.output.timeout_s
    }
  }
}
