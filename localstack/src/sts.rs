//! STS: GetCallerIdentity, which every credential may call.

use crate::aws::Refusal;
use crate::aws::query::Params;
use crate::aws::xml::Xml;
use crate::world::World;

/// STS's API version.
pub const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Answers a call of the key `access_key`.
pub fn call(
    world: &World,
    params: &Params,
    access_key: &str,
    asked: Option<&Refusal>,
    request_id: &str,
) -> Result<String, Refusal> {
    let root = params.root();
    let action = root.text("Action").unwrap_or("");
    if action != "GetCallerIdentity" || root.text("Version") != Some(VERSION) {
        let message =
            format!("Could not find operation {action} for version {}", root.text("Version").unwrap_or(""));
        return Err(Refusal::new("InvalidAction", message));
    }
    if let Some(refusal) = asked {
        return Err(refusal.clone());
    }
    // Unlike EC2, STS ignores what it does not know.
    let mut xml = Xml::default();
    xml.element("GetCallerIdentityResult", |xml| {
        xml.text("Arn", format!("arn:aws:iam::{}:user/{access_key}", world.account));
        xml.text("UserId", format!("AIDA{}", access_key.to_ascii_uppercase()));
        xml.text("Account", &world.account);
    });
    xml.element("ResponseMetadata", |xml| xml.text("RequestId", request_id));
    Ok(xml.document("GetCallerIdentityResponse", NAMESPACE))
}

/// A refusal, as STS writes it.
#[must_use]
pub fn error_document(refusal: &Refusal, request_id: &str) -> String {
    let mut xml = Xml::default();
    xml.element("Error", |xml| {
        xml.text("Type", if refusal.status < 500 { "Sender" } else { "Receiver" });
        xml.text("Code", &refusal.code);
        xml.text("Message", &refusal.message);
    });
    xml.text("RequestId", request_id);
    xml.document("ErrorResponse", NAMESPACE)
}
