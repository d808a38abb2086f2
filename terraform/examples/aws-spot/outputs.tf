output "look" {
  description = "Commands that list the machines and show their console output."
  value = {
    machines = "aws autoscaling describe-auto-scaling-groups --region ${module.workers.region} --auto-scaling-group-names ${module.workers.group_name}"
    console  = "aws ec2 get-console-output --region ${module.workers.region} --latest --output text --instance-id INSTANCE"
    gateway  = "beta9 machine list --no-offers"
  }
}

output "cost_guards" {
  description = "What limits the cost: how failed and unneeded machines are terminated."
  value       = module.workers.cost_guards
}

output "leave" {
  description = "How to stop all machines for now, and how to remove everything."
  value = {
    for_now  = "terraform apply -var machines=0"
    for_good = "terraform destroy"
  }
}

output "gpu_model" {
  description = "GPU model of the machines; the pool's gpuType in the gateway's configuration must match it."
  value       = module.workers.gpu_model
}
