//! Answers the `x-echo` header of a request and a counter kept in a static. The counter is always 1: every request has
//! an instance of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wasip2::http::proxy::export!(Echo);

static REQUESTS: AtomicU32 = AtomicU32::new(0);

struct Echo;

impl wasip2::exports::http::incoming_handler::Guest for Echo {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let counter = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
        let mut answer = request.headers().get("x-echo").into_iter().next().unwrap_or_default();
        answer.extend_from_slice(format!(" {counter}\n").as_bytes());

        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            for piece in answer.chunks(4096) {
                if stream.blocking_write_and_flush(piece).is_err() {
                    break;
                }
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
