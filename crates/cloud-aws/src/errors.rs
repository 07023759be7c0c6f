//! The one function that turns AWS's error codes into what the caller does next.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use cloud::{BoxError, CloudError};

/// How long to stay away after EC2 refused to be called: the time its slowest write bucket (5 a second) takes to
/// regain ten tokens. The SDK has already waited and tried three times by then.
pub(crate) const THROTTLE_PAUSE: Duration = Duration::from_secs(2);

/// What a code means, before it is known which offering or field it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The instance, or what it was asked by, is not there.
    NotFound,
    /// The launch template is not there: make it again.
    TemplateNotFound,
    /// It is there already: somebody else, or an earlier life of this process, made it.
    AlreadyExists,
    /// The pool of this type, zone and capacity type is empty.
    NoCapacity,
    /// The subnet has no addresses left.
    NoAddresses,
    /// The account may not have more of this kind (vCPU or spot quota).
    Quota,
    /// The client token was used with other parameters: an earlier launch for this claim was accepted.
    TokenUsed,
    /// Called too often.
    Throttled,
    /// A person must change `field`; the text is EC2's own.
    Misconfigured { field: Field, message: String },
    /// Anything else.
    Other,
}

/// The part of a class that a code blames; each class kind spells it its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    /// Subnets.
    Subnets,
    /// Security groups.
    SecurityGroups,
    /// Instance profile or role.
    InstanceProfile,
    /// Image selection.
    Image,
    /// A launch template of the person's own.
    LaunchTemplate,
    /// Block devices.
    BlockDevices,
    /// User data.
    UserData,
    /// Tags.
    Tags,
    /// Instance metadata options.
    MetadataOptions,
    /// The image family.
    ImageFamily,
    /// Not about a field of the class: what the controller itself may do.
    Permissions,
    /// Not about a field of the class: what somebody protected at EC2 (termination protection, for one).
    Protection,
    /// Somewhere in the class.
    Whole,
}

/// Sorts an error code and its message. Codes: "Error codes for the Amazon EC2 API", and Karpenter's lists in
/// `pkg/errors/errors.go`.
pub(crate) fn classify(code: &str, message: &str) -> Failure {
    let blames = |field: Field| Failure::Misconfigured { field, message: format!("{code}: {message}") };
    match code {
        "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed" => Failure::NotFound,
        "InvalidLaunchTemplateName.NotFoundException"
        | "InvalidLaunchTemplateId.NotFound"
        | "InvalidLaunchTemplateId.NotFoundException" => Failure::TemplateNotFound,
        "InvalidLaunchTemplateName.AlreadyExistsException" => Failure::AlreadyExists,

        // `Unsupported` is EC2's word for a type that the zone does not have.
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientCapacity"
        | "ReservationCapacityExceeded"
        | "UnfulfillableCapacity"
        | "Unsupported" => Failure::NoCapacity,
        "InsufficientFreeAddressesInSubnet" => Failure::NoAddresses,
        "MaxSpotInstanceCountExceeded"
        | "VcpuLimitExceeded"
        | "InstanceLimitExceeded"
        | "MaxFleetCountExceeded"
        | "SpotMaxPriceTooLow"
        | "AuthFailure.ServiceLinkedRoleCreationNotPermitted" => Failure::Quota,

        "IdempotentParameterMismatch" => Failure::TokenUsed,
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "EC2ThrottledException" => Failure::Throttled,

        "OperationNotPermitted" => blames(Field::Protection),
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "OptInRequired"
        | "PendingVerification" => blames(Field::Permissions),
        "InvalidSubnetID.NotFound" | "InvalidSubnetID.Malformed" | "InvalidSubnet" => blames(Field::Subnets),
        "InvalidGroup.NotFound"
        | "InvalidGroupId.Malformed"
        | "InvalidSecurityGroupID.NotFound"
        | "InvalidSecurityGroupId.Malformed"
        | "SecurityGroupLimitExceeded" => blames(Field::SecurityGroups),
        code if code.starts_with("InvalidAMIID") || code.starts_with("InvalidAMIName") => blames(Field::Image),
        "InvalidIamInstanceProfile" | "InvalidIamInstanceProfileName" => blames(Field::InstanceProfile),
        "InvalidBlockDeviceMapping" | "InvalidSnapshot.NotFound" | "InvalidKmsKey" | "VolumeTypeNotAvailableInZone" => {
            blames(Field::BlockDevices)
        }
        "InvalidUserData.Malformed" => blames(Field::UserData),
        "TagLimitExceeded" | "InvalidTagKey.Malformed" => blames(Field::Tags),
        "InvalidParameterValue"
        | "InvalidParameter"
        | "InvalidParameterCombination"
        | "MissingParameter"
        | "ValidationError" => blames(field_in(message)),
        _ => Failure::Other,
    }
}

/// Which field a free-text complaint is about: EC2 names its own parameter in the message.
fn field_in(message: &str) -> Field {
    const NAMES: [(&str, Field); 10] = [
        ("iaminstanceprofile", Field::InstanceProfile),
        ("iam instance profile", Field::InstanceProfile),
        ("security group", Field::SecurityGroups),
        ("subnet", Field::Subnets),
        ("user data", Field::UserData),
        ("userdata", Field::UserData),
        ("blockdevice", Field::BlockDevices),
        ("volume", Field::BlockDevices),
        ("metadata", Field::MetadataOptions),
        ("ami", Field::Image),
    ];
    let lower = message.to_ascii_lowercase();
    NAMES.iter().find(|(name, _)| lower.contains(name)).map_or(Field::Whole, |(_, field)| *field)
}

/// An SDK error, sorted.
///
/// What it says is the same each time for the same reason, because it stands in events and conditions: EC2's code and message, or
/// why there was no answer. The request's id is in the log alone.
#[derive(Debug)]
pub(crate) struct CallError {
    /// The operation, as EC2 calls it.
    pub(crate) operation: &'static str,
    pub(crate) failure: Failure,
    /// EC2's code and message.
    said: Option<String>,
    source: BoxError,
}

impl CallError {
    pub(crate) fn new<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let message = steady(error.message().unwrap_or_default());
        let failure = match (error.code(), status) {
            (Some(code), _) => classify(code, message),
            (None, Some(429)) => Failure::Throttled,
            (None, _) => Failure::Other,
        };
        let said = error.code().map(|code| format!("{code}: {message}"));
        tracing::debug!(operation, ?error, "a call to AWS failed");
        Self { operation, failure, said, source: Box::new(error) }
    }

    /// What the caller of the port hears, when the call was not about one offering. `spell` writes a field's path as
    /// the class at hand has it. Shared, because several callers may have waited for one call.
    pub(crate) fn shared(error: &Arc<Self>, spell: impl FnOnce(Field) -> String) -> CloudError {
        match &error.failure {
            Failure::NotFound => CloudError::NotFound,
            Failure::Throttled => CloudError::Throttled { retry_after: THROTTLE_PAUSE },
            Failure::Misconfigured { field: Field::Permissions, message } => not_allowed(error.operation, message),
            Failure::Misconfigured { field: Field::Protection, message } => CloudError::Misconfigured {
                what: format!("the machine's protection: {} was refused: {message}", error.operation),
            },
            Failure::Misconfigured { field, message } => CloudError::misconfigured(&spell(*field), message),
            _ => CloudError::Unavailable(Box::new(Arc::clone(error))),
        }
    }

    /// The same for a call that was nobody else's.
    pub(crate) fn into_cloud(self, spell: impl FnOnce(Field) -> String) -> CloudError {
        Self::shared(&Arc::new(self), spell)
    }

    /// The whole chain of causes on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// What the controller's own role does not allow.
pub(crate) fn not_allowed(operation: &str, message: &str) -> CloudError {
    CloudError::Misconfigured { what: format!("the controller's AWS permissions: {operation} was refused: {message}") }
}

/// A message without its encoded part, which differs each time: `aws sts decode-authorization-message` wants it from the log.
pub(crate) fn steady(message: &str) -> &str {
    message.split("Encoded authorization failure message").next().unwrap_or_default().trim_end()
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} failed", self.operation)?;
        self.said.iter().try_for_each(|said| write!(f, ": {said}"))
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.said.is_none().then_some(self.source.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed(code: &str, message: &str) -> Field {
        match classify(code, message) {
            Failure::Misconfigured { field, message: text } => {
                assert!(text.starts_with(code) && text.ends_with(message), "{text}");
                field
            }
            other => panic!("{code} gives {other:?}"),
        }
    }

    #[test]
    fn what_is_said_is_the_same_each_time() {
        let refused = |id: &str| {
            let text = format!("You are not authorized. Encoded authorization failure message: {id}");
            let error = aws_sdk_ec2::error::ErrorMetadata::builder()
                .code("UnauthorizedOperation")
                .message(text)
                .custom("aws_request_id", id.to_owned())
                .build();
            let error = aws_sdk_ec2::operation::describe_subnets::DescribeSubnetsError::generic(error);
            let response = HttpResponse::new(403.try_into().unwrap(), aws_smithy_types::body::SdkBody::empty());
            CallError::new("DescribeSubnets", SdkError::service_error(error, response))
        };
        let one = refused("one");
        assert_eq!(one.chain(), "DescribeSubnets failed: UnauthorizedOperation: You are not authorized.");
        assert_eq!(one.chain(), refused("two").chain());
        assert_eq!(one.failure, refused("two").failure);
    }

    #[test]
    fn every_code_has_its_next_step() {
        let table = [
            ("InvalidInstanceID.NotFound", Failure::NotFound),
            ("InvalidLaunchTemplateName.NotFoundException", Failure::TemplateNotFound),
            ("InvalidLaunchTemplateId.NotFound", Failure::TemplateNotFound),
            ("InvalidLaunchTemplateName.AlreadyExistsException", Failure::AlreadyExists),
            ("InsufficientInstanceCapacity", Failure::NoCapacity),
            ("UnfulfillableCapacity", Failure::NoCapacity),
            ("Unsupported", Failure::NoCapacity),
            ("InsufficientFreeAddressesInSubnet", Failure::NoAddresses),
            ("MaxSpotInstanceCountExceeded", Failure::Quota),
            ("VcpuLimitExceeded", Failure::Quota),
            ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", Failure::Quota),
            ("IdempotentParameterMismatch", Failure::TokenUsed),
            ("RequestLimitExceeded", Failure::Throttled),
            ("ThrottlingException", Failure::Throttled),
            ("InternalError", Failure::Other),
            ("SomethingNew", Failure::Other),
        ];
        for (code, expected) in table {
            assert_eq!(classify(code, "text"), expected, "{code}");
        }
    }

    #[test]
    fn a_mistake_is_blamed_on_its_field() {
        let table = [
            ("InvalidSubnetID.NotFound", "The subnet ID 'subnet-1' does not exist", Field::Subnets),
            ("InvalidGroup.NotFound", "The security group 'sg-1' does not exist", Field::SecurityGroups),
            ("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", Field::Image),
            ("UnauthorizedOperation", "You are not authorized", Field::Permissions),
            ("OperationNotPermitted", "Modify its 'disableApiTermination' instance attribute", Field::Protection),
            (
                "InvalidParameterValue",
                "Value (missing) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
                Field::InstanceProfile,
            ),
            ("InvalidParameterValue", "Invalid value for volume size", Field::BlockDevices),
            ("InvalidParameterValue", "something else", Field::Whole),
        ];
        for (code, message, field) in table {
            assert_eq!(blamed(code, message), field, "{code} {message}");
        }
    }
}
