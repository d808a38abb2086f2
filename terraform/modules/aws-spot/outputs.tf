output "group_name" {
  description = "The autoscaling group: `aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names …` lists its machines."
  value       = aws_autoscaling_group.workers.name
}

output "launch_template_id" {
  description = "The launch template that machines start from."
  value       = aws_launch_template.worker.id
}

output "launch_template_version" {
  description = "Its version; a new one replaces the machines, a share at a time."
  value       = aws_launch_template.worker.latest_version
}

output "role_arn" {
  description = "The machines' role, for the policy of a customer-managed key."
  value       = aws_iam_role.worker.arn
}

output "security_group_id" {
  description = "The machines' security group."
  value       = aws_security_group.worker.id
}

output "gpu_model" {
  description = "The GPU model that all types of this group have; the pool's gpuType in the gateway's configuration must be the same."
  value       = local.gpu_of_family[split(".", var.instance_types[0])[0]]
}

output "cost_guards" {
  description = "What ends machines that do no good."
  value = {
    most_machines        = var.max_size
    not_ready_in_time    = "ended after ${var.launch_timeout_s} s by the launch hook"
    set_up_failed        = var.on_failure == "keep" ? "kept for a look, until the launch hook ends it" : "powers itself off, which ends it"
    all_of_them          = "aws autoscaling set-desired-capacity --auto-scaling-group-name ${var.name} --desired-capacity 0"
    what_nobody_guards   = "a ready machine without work: scale the group down"
    bill_only_while_here = "terraform destroy ends every machine of the group"
  }
}
