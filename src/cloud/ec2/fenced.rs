//! The last look before a call leaves for AWS: what changes something goes only while the fence is open.
//!
//! [`crate::cloud::fenced`] refuses earlier and in our words; this one is asked when everything that a call waits for
//! (its turn, its credentials, its signature) lies behind it, for each attempt anew.

use aws_sdk_ec2::config::http::HttpRequest;
use aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;

use crate::leader::Fence;

/// Stops calls that change something while the fence is closed. For clients of every service.
#[derive(Clone, Debug)]
pub struct Fenced(Fence);

impl Fenced {
    /// By this fence.
    #[must_use]
    pub fn by(fence: &Fence) -> Self {
        Self(fence.clone())
    }
}

impl Intercept for Fenced {
    fn name(&self) -> &'static str {
        "Fenced"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if !only_looks(context.request()) {
            self.0.check()?;
        }
        Ok(())
    }
}

/// Whether a call changes nothing, by the name of its action: a header of the JSON services, the first field of the form
/// that EC2 and STS take.
fn only_looks(request: &HttpRequest) -> bool {
    let target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
    let form = || request.body().bytes().and_then(action);
    let action = target.or_else(form).unwrap_or_default();
    ["Describe", "Get", "List", "Filter"].iter().any(|verb| action.starts_with(verb))
}

fn action(form: &[u8]) -> Option<&str> {
    let rest = form.strip_prefix(b"Action=")?;
    let end = rest.iter().position(|byte| *byte == b'&').unwrap_or(rest.len());
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_is_the_first_field_of_a_form() {
        assert_eq!(action(b"Action=RunInstances&Version=2016-11-15"), Some("RunInstances"));
        assert_eq!(action(b"Action=DescribeInstances"), Some("DescribeInstances"));
        assert_eq!(action(b"Version=1&Action=DescribeInstances"), None);
    }
}
