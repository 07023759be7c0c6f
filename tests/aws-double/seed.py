"""What the AWS account of a cluster has before a node provisioner arrives."""

import json

import boto3
from moto.core.utils import utcnow
from moto.ssm.models import Parameter, ssm_backends

ACCOUNT = "123456789012"
# Kubernetes minor versions whose EKS image parameters exist here. AWS stopped publishing AL2 at 1.33; the double goes on.
MINORS = range(22, 41)
AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/"
IMAGES = {
    "amazon-linux-2/recommended/image_id": "amzn2-ami-hvm-x86_64-gp2",
    "amazon-linux-2-gpu/recommended/image_id": "amzn2-ami-hvm-x86_64-gp2",
    "amazon-linux-2-arm64/recommended/image_id": "amzn2-ami-hvm-arm64-gp2",
    "amazon-linux-2023/x86_64/standard/recommended/image_id": "al2023-ami-kernel-default-x86_64",
    "amazon-linux-2023/arm64/standard/recommended/image_id": "al2023-ami-kernel-default-arm64",
}


def seed(endpoint: str, region: str, cluster: str, profile: str) -> dict:
    """A VPC with a subnet in each of three zones, two security groups, an instance profile and the AMI parameters."""

    def client(service):
        return boto3.client(
            service, region_name=region, endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
        )

    def tags(kind, name):
        discovery = [{"Key": f"kubernetes.io/cluster/{cluster}", "Value": "owned"}, {"Key": "karpenter.sh/discovery", "Value": cluster}]
        return [{"ResourceType": kind, "Tags": [*discovery, {"Key": "Name", "Value": f"{cluster}-{name}"}]}]

    ec2, iam, ssm = client("ec2"), client("iam"), client("ssm")
    vpc = ec2.create_vpc(CidrBlock="10.40.0.0/16", TagSpecifications=tags("vpc", "vpc"))["Vpc"]["VpcId"]
    subnets = {}
    for index, letter in enumerate("abc"):
        zone = region + letter
        created = ec2.create_subnet(
            VpcId=vpc, CidrBlock=f"10.40.{index * 16}.0/20", AvailabilityZone=zone,
            TagSpecifications=tags("subnet", f"private-{letter}"),
        )
        subnets[zone] = created["Subnet"]["SubnetId"]
    groups = [
        ec2.create_security_group(
            GroupName=f"{cluster}-{name}", Description=name, VpcId=vpc, TagSpecifications=tags("security-group", name)
        )["GroupId"]
        for name in ("node", "pod")
    ]
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    iam.create_role(RoleName=profile, AssumeRolePolicyDocument=json.dumps(trust))
    iam.create_instance_profile(InstanceProfileName=profile)
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=profile)
    images = {name: ssm.get_parameter(Name=AMAZON_LINUX + source)["Parameter"]["Value"] for name, source in IMAGES.items()}
    for minor in MINORS:
        for name, image in images.items():
            _put(region, f"/aws/service/eks/optimized-ami/1.{minor}/{name}", image)
    return {"vpc": vpc, "subnets": subnets, "security_groups": groups, "instance_profile": profile, "images": images}


def _put(region: str, name: str, value: str) -> None:
    """PutParameter refuses names under /aws/, as AWS does, so the value goes in by the back door."""
    parameter = Parameter(
        account_id=ACCOUNT, name=name, value=value, parameter_type="String", description=None, allowed_pattern=None,
        keyid=None, last_modified_date=utcnow(), version=1, data_type="text",
    )
    ssm_backends[ACCOUNT][region]._parameters[name].append(parameter)
