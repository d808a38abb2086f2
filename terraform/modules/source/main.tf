# The source tarball of this checkout, for machines that are given neither one nor an image: what `make source` builds,
# from the last commit. Terraform reads the commit's id from .git, so that a plan changes only when the commit does; the
# checksum is known once the tarball is built, and is kept in the state.

locals {
  root = abspath("${path.module}/../../..")

  # A release names its own tarball and image.
  is_release = can(regex("(?m)^BETA9_", file("${local.root}/cloud-init/release.env")))
  is_needed  = var.source_tarball == null && var.agent_image == null && !local.is_release

  # In a worktree or submodule .git is a file that names the directory, and refs may be in that of the main checkout.
  pointer    = try(trimspace(trimprefix(file("${local.root}/.git"), "gitdir: ")), ".git")
  git        = startswith(local.pointer, "/") ? local.pointer : "${local.root}/${local.pointer}"
  common_dir = try(trimspace(file("${local.git}/commondir")), ".")
  common     = startswith(local.common_dir, "/") ? local.common_dir : "${local.git}/${local.common_dir}"

  # HEAD is a commit's id or "ref: " and a branch, whose id is in a file of its own or in packed-refs.
  head   = try(trimspace(file("${local.git}/HEAD")), "")
  branch = trimprefix(local.head, "ref: ")
  packed = {
    for line in split("\n", try(file("${local.common}/packed-refs"), "")) : split(" ", line)[1] => split(" ", line)[0]
    if can(regex("^[0-9a-f]{40,64} ", line))
  }
  commit = local.branch == local.head ? local.head : try(
    trimspace(file("${local.git}/${local.branch}")),
    trimspace(file("${local.common}/${local.branch}")),
    local.packed[local.branch],
    "",
  )
  is_checkout = can(regex("^[0-9a-f]{40,64}$", local.commit))

  name = "beta9-worker-${substr(local.commit, 0, 12)}.tar.gz"
  dist = "${local.root}/dist"
}

resource "terraform_data" "tarball" {
  count = local.is_needed ? 1 : 0

  triggers_replace = local.commit
  input            = local.name

  provisioner "local-exec" {
    command = "bash \"$ROOT/scripts/source.sh\" \"$COMMIT\" \"$FILE\""
    environment = {
      ROOT   = local.root
      COMMIT = local.commit
      FILE   = "${local.dist}/${local.name}"
    }
  }

  lifecycle {
    precondition {
      condition     = local.is_checkout
      error_message = "No source for the bootstrap: ${local.root} is not a git checkout with a commit, from which Terraform could build the tarball. Use a clone of the repository, or set source_tarball (`make source` in a clone creates one and prints its checksum) or agent_image."
    }
  }
}

# A provisioner has no output, so the checksum is read from the file, once, after it was built; others who apply this
# state need not have the file.
resource "terraform_data" "checksum" {
  count = local.is_needed ? 1 : 0

  input = try(filesha256("${local.dist}/${terraform_data.tarball[0].output}"), "")

  lifecycle {
    ignore_changes       = [input]
    replace_triggered_by = [terraform_data.tarball]

    postcondition {
      condition     = can(regex("^[0-9a-f]{64}$", self.output))
      error_message = "The source tarball was not built: see the output of scripts/source.sh above."
    }
  }
}
