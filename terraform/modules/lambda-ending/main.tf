# Ends machines at Lambda on `terraform destroy`, which is the only thing that ends their bill.
#
# A step of ours, not a provider's: it counts as done only what the API itself calls ended. If it fails, Terraform
# keeps the resource, and with it the knowledge of the machine. The key comes by the environment, REST_API_BEARER,
# which is why it is in no state and no plan.

locals {
  step = var.instance_id != null ? "end" : "end-tagged"
  what = var.instance_id != null ? var.instance_id : var.tag
}

resource "terraform_data" "ending" {
  # A step that ends something else is another step: the old one is carried out, then there is a new one.
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
