//! What the examples share: reading a request whole, and answering whole.

use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    /// An answer in plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: vec![("content-type", "text/plain; charset=utf-8".into())], body: body.into() }
    }

    /// An answer in JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: vec![("content-type", "application/json".into())], body: body.into() }
    }

    /// With another header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends it. A client that is gone is no concern of the component's.
    pub fn send(self, out: ResponseOutparam) {
        let headers = Fields::new();
        for (name, value) in &self.headers {
            let _ = headers.append(name, value.as_bytes());
        }
        let _ = headers.append("content-length", self.body.len().to_string().as_bytes());
        let response = OutgoingResponse::new(headers);
        let _ = response.set_status_code(self.status);
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            // The host takes 4096 bytes in one blocking write.
            for piece in self.body.as_bytes().chunks(4096) {
                if stream.blocking_write_and_flush(piece).is_err() {
                    break;
                }
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

/// The request's path without its query.
pub fn path(request: &IncomingRequest) -> String {
    let path = request.path_with_query().unwrap_or_default();
    path.split('?').next().unwrap_or_default().to_owned()
}

/// The request's body, if it is at most `limit` bytes of UTF-8.
pub fn body(request: &IncomingRequest, limit: usize) -> Result<String, &'static str> {
    let body = request.consume().map_err(|()| "the body was read before")?;
    let mut bytes = Vec::new();
    let read = match body.stream() {
        Ok(stream) => loop {
            match stream.blocking_read(64 << 10) {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(wasip2::io::streams::StreamError::Closed) => break Ok(()),
                Err(_) => break Err("the body broke off"),
            }
            if bytes.len() > limit {
                break Err("the body is too large");
            }
        },
        Err(()) => Err("the body was read before"),
    };
    drop(IncomingBody::finish(body));
    read?;
    String::from_utf8(bytes).map_err(|_| "the body is not UTF-8")
}
