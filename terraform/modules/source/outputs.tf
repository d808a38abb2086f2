output "tarball" {
  description = "The tarball that was built: its name, checksum and commit, its path on this machine, and the location at which a machine waits for it. Null: something else was given, or this is a release."
  value = local.is_needed ? {
    name   = terraform_data.tarball[0].output
    sha256 = terraform_data.checksum[0].output
    commit = local.commit
    file   = "${local.dist}/${terraform_data.tarball[0].output}"
    # boot.sh waits for files in this directory, which do not exist at first.
    location = "/opt/beta9-worker/source/${terraform_data.tarball[0].output}#sha256=${terraform_data.checksum[0].output}"
  } : null
}

output "is_needed" {
  description = "Whether the tarball has to be delivered, as known at plan time."
  value       = local.is_needed
}
