output "look" {
  description = "How to look at the machines."
  value = {
    machines = "aws autoscaling describe-auto-scaling-groups --region ${var.region} --auto-scaling-group-names ${module.workers.group_name}"
    console  = "aws ec2 get-console-output --region ${var.region} --latest --output text --instance-id INSTANCE"
    gateway  = "beta9 machine list"
  }
}

output "cost_guards" {
  description = "What ends machines that do no good."
  value       = module.workers.cost_guards
}

output "leave" {
  description = "How to leave: for now, and for good."
  value = {
    for_now  = "terraform apply -var machines=0"
    for_good = "terraform destroy"
  }
}

output "gpu_model" {
  description = "The pool's gpuType in the gateway's configuration must be this GPU."
  value       = module.workers.gpu_model
}
