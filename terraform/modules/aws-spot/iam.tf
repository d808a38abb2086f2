# A machine's permissions: read its own secret and its source tarball, and complete the group's lifecycle hooks. User
# workloads on the machine can reach the metadata service and use the same role, so nothing else is granted.

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

locals {
  region  = data.aws_region.current.id
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"

  references = toset(compact([var.token_ref, var.ssh_key_ref]))

  # ssm:///a/b names parameter /a/b, and ssm://a names a; in an ARN both follow "parameter/", without a leading slash.
  parameters = toset([for each in local.references : trimprefix(each, "ssm://") if startswith(each, "ssm://")])
  parameter_arns = [
    for each in local.parameters :
    startswith(each, "arn:") ? each : "${local.arn}:ssm:${local.region}:${local.account}:parameter/${trimprefix(each, "/")}"
  ]

  # The part after "#" is a key inside the same secret.
  secrets = toset([
    for each in local.references : split("#", trimprefix(each, "secretsmanager://"))[0] if startswith(each, "secretsmanager://")
  ])
}

# Looks up the secret's full ARN, with the six random characters that AWS appends. The value is not read.
data "aws_secretsmanager_secret" "named" {
  for_each = toset([for each in local.secrets : each if !startswith(each, "arn:")])

  name = each.value
}

locals {
  secret_arns = concat(
    [for each in local.secrets : each if startswith(each, "arn:")],
    [for each in data.aws_secretsmanager_secret.named : each.arn],
  )
}

data "aws_iam_policy_document" "worker" {
  dynamic "statement" {
    for_each = length(local.parameter_arns) > 0 ? [1] : []

    content {
      sid       = "ReadItsParameter"
      actions   = ["ssm:GetParameter"]
      resources = local.parameter_arns
    }
  }

  dynamic "statement" {
    for_each = length(local.secret_arns) > 0 ? [1] : []

    content {
      sid       = "ReadItsSecret"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = local.secret_arns
    }
  }

  dynamic "statement" {
    for_each = aws_s3_bucket_object.source

    content {
      sid       = "ReadItsSource"
      actions   = ["s3:GetObject"]
      resources = ["${aws_s3_bucket.source[statement.key].arn}/${statement.value.key}"]
    }
  }

  # Only through the secret store, and only for these entries: the key may protect others as well.
  dynamic "statement" {
    for_each = var.secret_kms_key_arn == null ? [] : [var.secret_kms_key_arn]

    content {
      sid       = "DecryptIt"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values = compact([
          length(local.parameter_arns) > 0 ? "ssm.${local.region}.amazonaws.com" : "",
          length(local.secret_arns) > 0 ? "secretsmanager.${local.region}.amazonaws.com" : "",
        ])
      }

      dynamic "condition" {
        for_each = length(local.parameter_arns) > 0 && length(local.secret_arns) == 0 ? [1] : []

        content {
          test     = "StringEquals"
          variable = "kms:EncryptionContext:PARAMETER_ARN"
          values   = local.parameter_arns
        }
      }

      dynamic "condition" {
        for_each = length(local.secret_arns) > 0 && length(local.parameter_arns) == 0 ? [1] : []

        content {
          test     = "StringEquals"
          variable = "kms:EncryptionContext:SecretARN"
          values   = local.secret_arns
        }
      }
    }
  }

  statement {
    sid       = "AnswerItsGroup"
    actions   = ["autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth"]
    resources = ["${local.arn}:autoscaling:${local.region}:${local.account}:autoScalingGroup:*:autoScalingGroupName/${var.name}"]
  }
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "worker" {
  name_prefix          = "${var.name}-"
  description          = "Workers of the Beta9 pool ${var.pool_name}"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

resource "aws_iam_role_policy" "worker" {
  name   = "worker"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.worker.json
}

resource "aws_iam_instance_profile" "worker" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.worker.name
  tags        = local.tags
}
