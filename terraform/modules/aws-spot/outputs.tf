output "group_name" {
  description = "Name of the Auto Scaling group; `aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names …` lists its machines."
  value       = aws_autoscaling_group.workers.name
}

output "region" {
  description = "Region of the group."
  value       = local.region
}

output "launch_template_id" {
  description = "Id of the launch template that machines start from."
  value       = aws_launch_template.worker.id
}

output "launch_template_version" {
  description = "Latest version of the launch template; a new one replaces the machines in batches."
  value       = aws_launch_template.worker.latest_version
}

output "role_arn" {
  description = "ARN of the machines' role, for the policy of a customer-managed key."
  value       = aws_iam_role.worker.arn
}

output "security_group_id" {
  description = "Id of the machines' security group."
  value       = aws_security_group.worker.id
}

output "gpu_model" {
  description = "GPU model of all instance types of the group; the pool's gpuType in the gateway's configuration must match it."
  value       = local.gpu_of_family[split(".", var.instance_types[0])[0]]
}

output "cost_guards" {
  description = "What limits the cost: how failed and unneeded machines are terminated."
  value = {
    most_machines        = var.max_size
    not_ready_in_time    = "terminated by the launch hook after ${var.launch_timeout_s} s"
    set_up_failed        = var.on_failure == "keep" ? "kept for inspection until the launch hook terminates it" : "powers itself off, which terminates it"
    all_of_them          = "aws autoscaling set-desired-capacity --auto-scaling-group-name ${var.name} --desired-capacity 0"
    what_nobody_guards   = "a ready machine without work keeps running: scale the group in"
    bill_only_while_here = "terraform destroy terminates every machine of the group"
  }
}
