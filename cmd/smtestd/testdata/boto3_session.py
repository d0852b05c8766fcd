"""What a program with boto3 does to a server whose URL is in the environment.

Everything goes through boto3's own model of the service: its checks of parameters,
its classes of exceptions, its paginators. Any failed assertion ends the program with
a status that is not 0.
"""

import datetime
import os
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

url = os.environ["AWS_ENDPOINT_URL_SECRETS_MANAGER"]


def client(region="us-east-1", key="AKIABOTO3BOTO3BO"):
    return boto3.client(
        "secretsmanager",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )


c = client()
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:any"


def knows(shape, member):
    """Does this boto3 know of the member? Debian 12's is of 2022."""
    return member in c.meta.service_model.shape_for(shape).members


def refuses(exception, message, call, **args):
    try:
        call(**args)
    except exception as e:
        assert message in e.response["Error"]["Message"], e
        assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 400, e
        assert e.response["ResponseMetadata"]["RequestId"], e
        # The modeled ones have their text at the top level too.
        if type(e) is not ClientError:
            assert e.response["Message"] == e.response["Error"]["Message"], e
    else:
        raise AssertionError(f"{call.__name__}({args}) was not refused")


# Create.
made = c.create_secret(
    Name="prod/db",
    Description="the application's user",
    SecretString="one",
    Tags=[{"Key": "team", "Value": "core"}],
)
arn, first = made["ARN"], made["VersionId"]
assert arn.startswith("arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-"), arn
refuses(c.exceptions.ResourceExistsException, "already exists", c.create_secret, Name="prod/db", SecretString="x")
c.create_secret(Name="prod/key", SecretBinary=b"\x00\xff")
c.create_secret(Name="test/db", SecretString="other")

# Get, put, get by stage and by version.
got = c.get_secret_value(SecretId="prod/db")
assert (got["SecretString"], got["VersionId"], got["VersionStages"]) == ("one", first, ["AWSCURRENT"]), got
assert "SecretBinary" not in got, got
age = datetime.datetime.now(datetime.timezone.utc) - got["CreatedDate"]
assert abs(age.total_seconds()) < 60, got["CreatedDate"]
assert c.get_secret_value(SecretId="prod/key")["SecretBinary"] == b"\x00\xff"
second = c.put_secret_value(SecretId=arn, SecretString="two")
assert second["VersionStages"] == ["AWSCURRENT"], second
staged = c.put_secret_value(SecretId=arn, SecretString="three", VersionStages=["next"])
for args, want in (
    ({}, "two"),
    ({"VersionStage": "AWSPREVIOUS"}, "one"),
    ({"VersionStage": "next"}, "three"),
    ({"VersionId": staged["VersionId"]}, "three"),
):
    assert c.get_secret_value(SecretId="prod/db", **args)["SecretString"] == want, (args, want)
refuses(c.exceptions.ResourceNotFoundException, "staging label: AWSPENDING", c.get_secret_value, SecretId=arn, VersionStage="AWSPENDING")
refuses(c.exceptions.ResourceNotFoundException, "can't find the specified secret", c.get_secret_value, SecretId="none")
refuses(ClientError, "Invalid name", c.get_secret_value, SecretId="no name")
c.update_secret_version_stage(SecretId=arn, VersionStage="next", RemoveFromVersionId=staged["VersionId"])
listed = c.list_secret_version_ids(SecretId=arn, IncludeDeprecated=True)["Versions"]
assert len(listed) == 3 and "VersionStages" not in [v for v in listed if v["VersionId"] == staged["VersionId"]][0], listed

# Rotate.
refuses(c.exceptions.InvalidRequestException, "No Lambda rotation function ARN", c.rotate_secret, SecretId=arn)
started = c.rotate_secret(SecretId=arn, RotationLambdaARN=FUNCTION, RotationRules={"ScheduleExpression": "rate(10 days)"})
while c.get_secret_value(SecretId=arn)["VersionId"] != started["VersionId"]:
    time.sleep(0.01)
described = c.describe_secret(SecretId=arn)
assert described["RotationEnabled"] is True and described["RotationLambdaARN"] == FUNCTION, described
assert described["RotationRules"]["ScheduleExpression"] == "rate(10 days)", described
if knows("DescribeSecretResponse", "NextRotationDate"):
    assert described["NextRotationDate"] > described["CreatedDate"], described
c.cancel_rotate_secret(SecretId=arn)
assert c.describe_secret(SecretId=arn)["RotationEnabled"] is False

# List with filters, by pages.
def names(**args):
    pages = c.get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 1}, **args)
    return [s["Name"] for page in pages for s in page["SecretList"]]


assert names(SortOrder="asc") == ["prod/db", "prod/key", "test/db"], names(SortOrder="asc")
assert sorted(names(Filters=[{"Key": "name", "Values": ["prod/"]}])) == ["prod/db", "prod/key"]
assert names(Filters=[{"Key": "tag-key", "Values": ["team"]}, {"Key": "tag-value", "Values": ["core"]}]) == ["prod/db"]
assert names(Filters=[{"Key": "description", "Values": ["application"]}]) == ["prod/db"]
assert names(Filters=[{"Key": "all", "Values": ["nothing"]}]) == []

# Tag.
c.tag_resource(SecretId=arn, Tags=[{"Key": "team", "Value": "data"}, {"Key": "env", "Value": "prod"}])
c.untag_resource(SecretId=arn, TagKeys=["env"])
assert c.describe_secret(SecretId=arn)["Tags"] == [{"Key": "team", "Value": "data"}]

# Delete and restore.
deleted = c.delete_secret(SecretId=arn, RecoveryWindowInDays=7)
days = (deleted["DeletionDate"] - datetime.datetime.now(datetime.timezone.utc)).total_seconds() / 86400
assert 6.9 < days < 7.1, days
refuses(c.exceptions.InvalidRequestException, "marked for deletion", c.get_secret_value, SecretId=arn)
assert "prod/db" not in names()
if knows("ListSecretsRequest", "IncludePlannedDeletion"):
    assert "prod/db" in names(IncludePlannedDeletion=True)
assert c.restore_secret(SecretId=arn)["Name"] == "prod/db"
assert c.get_secret_value(SecretId=arn)["VersionId"] == started["VersionId"]
c.delete_secret(SecretId="test/db", ForceDeleteWithoutRecovery=True)
refuses(c.exceptions.ResourceNotFoundException, "can't find", c.describe_secret, SecretId="test/db")

# Regions, accounts, and the rest.
refuses(client("eu-west-1").exceptions.ResourceNotFoundException, "can't find", client("eu-west-1").describe_secret, SecretId="prod/db")
other = client(key="AKIAOTHERACCOUNT").create_secret(Name="prod/db", SecretString="theirs")
assert ":111122223333:" in other["ARN"], other
assert len(c.get_random_password(PasswordLength=40, ExcludePunctuation=True)["RandomPassword"]) == 40
print("boto3", boto3.__version__)
