//! The one HTTP port: tells the services apart, verifies signatures, and lets faults happen.
//!
//! AWS requests go to `/`, the control endpoint is under `/_local`, SSM's data channels bring their own path.

mod server;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, Method};
use http_body_util::{BodyExt, Limited};
use tokio::time::sleep;

pub use self::server::serve;
use crate::aws::query::Params;
use crate::aws::sigv4::claimed_scope;
use crate::aws::{self, Dialect, Refusal, auth_refusal};
use crate::faults::{Call, Fault, Then};
use crate::ssm::Ssm;
use crate::world::World;
use crate::{clock, control, ec2, logs, pricing, sts};

/// Larger than any request of these services but PutLogEvents.
const LARGEST_BODY: usize = 1 << 20;
/// Of CloudWatch Logs: 1 MiB of messages, each byte of which JSON may write as six, and what is around 10,000 events.
const LARGEST_LOGS: usize = 8 << 20;
/// What `X-Amz-Target` begins with, for each service that speaks JSON.
const TARGETS: [(&str, &str); 3] =
    [("ssm", "AmazonSSM."), ("pricing", pricing::TARGET), ("logs", logs::TARGET)];

/// Marks a response that is not sent: the connection is closed instead.
#[derive(Clone, Copy, Debug)]
pub struct DropConnection;

#[derive(Clone, Debug)]
struct App {
    world: Arc<World>,
    ssm: Arc<Ssm>,
}

/// Everything behind the port.
pub fn router(world: Arc<World>, ssm: Arc<Ssm>) -> Router {
    Router::new()
        .nest("/_local", control::router(world.clone(), ssm.clone()))
        .merge(ssm.clone().router())
        .fallback_service(Router::new().fallback(answer).with_state(App { world, ssm }))
}

/// A request to one service.
struct Asked {
    dialect: Dialect,
    /// Also the name that signatures are for.
    service: &'static str,
    action: String,
    content: Content,
}

enum Content {
    Form(Params),
    Json(serde_json::Value),
}

async fn answer(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let request_id = uuid::Uuid::new_v4().to_string();
    let most = if target(&parts).starts_with(logs::TARGET) { LARGEST_LOGS } else { LARGEST_BODY };
    let Ok(body) = Limited::new(body, most).collect().await.map(http_body_util::Collected::to_bytes) else {
        return refuse(
            dialect(&parts, b""),
            &Refusal::new("RequestEntityTooLarge", "The request is too large").with_status(413),
            &request_id,
        );
    };
    let dialect = dialect(&parts, &body);
    let mut response = match read(&parts, &body, dialect) {
        Ok(asked) => app.act(&parts, &body, asked, &request_id).await,
        Err(refusal) => refuse(dialect, &refusal, &request_id),
    };
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

impl App {
    /// Verifies, then acts, with whatever faults wait for this action.
    async fn act(&self, parts: &Parts, body: &[u8], asked: Asked, request_id: &str) -> Response {
        let dialect = asked.dialect;
        let (service, action) = (asked.service, asked.action.clone());
        let record = |outcome: &str| {
            tracing::debug!(service, action, outcome, "call");
            let call = Call {
                at: clock::now(),
                service: service.to_owned(),
                action: action.clone(),
                outcome: outcome.to_owned(),
            };
            self.world.calls.add(call);
        };
        let access_key = match self.world.verify(parts, body, service) {
            Ok(scope) => scope.access_key,
            Err(error) => {
                let refusal = auth_refusal(&error, dialect);
                record(&refusal.code);
                return refuse(dialect, &refusal, request_id);
            }
        };
        let fault = self.world.faults.take(&action);
        if let Some(fault) = &fault {
            sleep(Duration::from_millis(fault.delay_ms)).await;
            if fault.then == Then::Drop {
                record("dropped");
                return dropped();
            }
        }
        let instead = fault.as_ref().filter(|fault| fault.then == Then::Refuse).map(Fault::refusal);
        let result = self.perform(asked, &access_key, instead, request_id).await;
        if let Some(fault) = &fault {
            sleep(Duration::from_millis(fault.answer_delay_ms)).await;
        }
        let result = match fault.as_ref().map(|fault| fault.then) {
            Some(Then::ActThenDrop) => {
                record("dropped");
                return dropped();
            }
            Some(Then::ActThenRefuse) => Err(fault.as_ref().map_or_else(internal, Fault::refusal)),
            Some(Then::Act | Then::Refuse | Then::Drop) | None => result,
        };
        match result {
            Ok(response) => {
                record("ok");
                response
            }
            Err(refusal) => {
                record(&refusal.code);
                refuse(dialect, &refusal, request_id)
            }
        }
    }

    async fn perform(
        &self,
        asked: Asked,
        access_key: &str,
        instead: Option<Refusal>,
        request_id: &str,
    ) -> Result<Response, Refusal> {
        let xml = |text: String| aws::answer(200, "text/xml;charset=UTF-8", text);
        match (asked.content, asked.dialect) {
            (Content::Form(params), Dialect::Sts) => {
                sts::call(&self.world, &params, access_key, instead.as_ref(), request_id).map(xml)
            }
            (Content::Form(params), Dialect::Ec2 | Dialect::Json) => {
                ec2::call(&self.world, &params, instead.as_ref(), request_id).map(xml)
            }
            (Content::Json(body), _) => {
                if let Some(refusal) = instead {
                    return Err(refusal);
                }
                let operation = asked.action;
                let text = match asked.service {
                    "pricing" => pricing::call(&self.world, &operation, &body)?.to_string(),
                    "logs" => self.world.logs.call(&operation, body, clock::now())?,
                    _ => self.ssm.call(&operation, body).await?.to_string(),
                };
                Ok(aws::json(200, text))
            }
        }
    }
}

/// The service that a request is for: by its signature, else by its form.
fn dialect(parts: &Parts, body: &[u8]) -> Dialect {
    if parts.headers.contains_key("x-amz-target") {
        return Dialect::Json;
    }
    let version = format!("Version={}", sts::VERSION);
    let is_sts = |text: &str| text.split('&').any(|pair| pair == version);
    match claimed_scope(&parts.headers).as_ref().map(|scope| scope.service.as_str()) {
        Some("sts") => Dialect::Sts,
        Some("ssm" | "pricing" | "logs") => Dialect::Json,
        Some("ec2") => Dialect::Ec2,
        Some(_) | None if is_sts(&String::from_utf8_lossy(body)) => Dialect::Sts,
        Some(_) | None => Dialect::Ec2,
    }
}

fn read(parts: &Parts, body: &[u8], dialect: Dialect) -> Result<Asked, Refusal> {
    if parts.uri.path() != "/" {
        let message = format!("There is nothing at {}", parts.uri.path());
        return Err(Refusal::new("UnknownOperationException", message).with_status(404));
    }
    if dialect == Dialect::Json {
        return read_json(parts, body);
    }
    let form = match parts.method {
        Method::GET => parts.uri.query().unwrap_or(""),
        Method::POST => std::str::from_utf8(body)
            .map_err(|_| Refusal::new("MalformedQueryString", "The query string contains a syntax error"))?,
        _ => {
            let message = format!("The method {} is not allowed", parts.method);
            return Err(Refusal::new("InvalidRequest", message).with_status(405));
        }
    };
    let params = Params::parse(form)?;
    let action = params.root().text("Action").unwrap_or("").to_owned();
    let service = if dialect == Dialect::Sts { "sts" } else { "ec2" };
    Ok(Asked { dialect, service, action, content: Content::Form(params) })
}

fn target(parts: &Parts) -> &str {
    parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or("")
}

fn read_json(parts: &Parts, body: &[u8]) -> Result<Asked, Refusal> {
    let target = target(parts);
    let found = TARGETS.iter().find_map(|(service, prefix)| Some((*service, target.strip_prefix(prefix)?)));
    let (service, action) = found.ok_or_else(|| {
        Refusal::new("UnknownOperationException", format!("The operation '{target}' does not exist"))
    })?;
    let content = if body.is_empty() { Ok(serde_json::json!({})) } else { serde_json::from_slice(body) };
    let content =
        content.map_err(|_| Refusal::new("SerializationException", "The request is not valid JSON"))?;
    Ok(Asked { dialect: Dialect::Json, service, action: action.to_owned(), content: Content::Json(content) })
}

fn refuse(dialect: Dialect, refusal: &Refusal, request_id: &str) -> Response {
    let kind = "text/xml;charset=UTF-8";
    match dialect {
        Dialect::Ec2 => aws::answer(refusal.status, kind, ec2::error_document(refusal, request_id)),
        Dialect::Sts => aws::answer(refusal.status, kind, sts::error_document(refusal, request_id)),
        Dialect::Json => aws::json(
            refusal.status,
            serde_json::json!({ "__type": refusal.code, "message": refusal.message }).to_string(),
        ),
    }
}

fn dropped() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(DropConnection);
    response
}

fn internal() -> Refusal {
    Refusal::new("InternalError", "An internal error has occurred.").with_status(500)
}

#[cfg(test)]
mod tests;
