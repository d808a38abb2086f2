# The checkout's source tarball, where neither a location nor an image is given: one private object in S3, which the
# machines' role may read, and nothing else there.

module "source" {
  source = "../source"

  source_tarball = var.source_tarball
  agent_image    = var.agent_image
}

locals {
  own_source = module.source.is_needed ? { tarball = module.source.tarball } : {}

  # With the checksum, so that another build of the same commit is another object.
  source_keys = { for each, made in local.own_source : each => "${made.sha256}/${made.name}" }
  source_tarball = var.source_tarball != null ? var.source_tarball : one([
    for each, made in local.own_source : "s3://${aws_s3_bucket.source[each].id}/${local.source_keys[each]}#sha256=${made.sha256}"
  ])
}

resource "aws_s3_bucket" "source" {
  # checkov:skip=CKV_AWS_18: a log of who read published source code would need another bucket
  # checkov:skip=CKV_AWS_21: objects are named by their checksum and never change
  # checkov:skip=CKV_AWS_144: machines of this region alone read it, and Terraform can make it again
  # checkov:skip=CKV_AWS_145: it holds no secret, and a key of its own would need further permissions
  # checkov:skip=CKV2_AWS_61: Terraform removes an object when it is no longer used
  # checkov:skip=CKV2_AWS_62: nobody needs to hear of an upload that Terraform makes
  for_each = local.own_source

  bucket_prefix = "${lower(var.name)}-src-"
  force_destroy = true
  tags          = local.tags

  server_side_encryption_configuration {
    rule {
      apply_server_side_encryption_by_default {
        sse_algorithm = "AES256"
      }
    }
  }
}

resource "aws_s3_bucket_public_access_block" "source" {
  for_each = local.own_source

  bucket                  = aws_s3_bucket.source[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

data "aws_iam_policy_document" "source" {
  for_each = local.own_source

  statement {
    sid       = "OnlyOverTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.source[each.key].arn, "${aws_s3_bucket.source[each.key].arn}/*"]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "source" {
  for_each = local.own_source

  bucket = aws_s3_bucket.source[each.key].id
  policy = data.aws_iam_policy_document.source[each.key].json

  # S3 refuses to change both at the same time.
  depends_on = [aws_s3_bucket_public_access_block.source]
}

# Not aws_s3_object, which the oldest supported provider does not have.
resource "aws_s3_bucket_object" "source" {
  # checkov:skip=CKV_AWS_186: it holds no secret, and a key of its own would need further permissions
  for_each = local.own_source

  bucket                 = aws_s3_bucket_policy.source[each.key].id
  key                    = local.source_keys[each.key]
  source                 = each.value.file
  server_side_encryption = "AES256"
  tags                   = local.tags

  lifecycle {
    # Machines that start during an apply may still ask for the previous one.
    create_before_destroy = true
    # The path is another on each machine that applies this.
    ignore_changes = [source]
  }
}
