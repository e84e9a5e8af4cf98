//! Questions and answers as DNS messages.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::IpAddr;

use super::zone::{Answer, Data, Zone};

/// Seconds that an answer may be remembered. Short, since endpoints come and go; what upstream's server says too.
const TTL: u32 = 5;
/// How many aliases are followed for one question.
const ALIASES: usize = 8;
/// The largest answer that fits a datagram where the question does not say; and where it does, at most.
const DATAGRAM: (u16, u16) = (512, 1232);

/// What to do about a question.
#[derive(Debug)]
pub enum Response {
    /// Say this.
    Say(Vec<u8>),
    /// Ask somebody else.
    Elsewhere,
    /// The name is an alias of somebody else's: ask them for that, and say both. Resolvers of programs do not ask twice.
    Follow(Box<Follow>),
    /// Say nothing: it was no question.
    Nothing,
}

/// An answer that lacks what its alias stands for.
#[derive(Debug)]
pub struct Follow {
    request: Message,
    answers: Vec<Record>,
    target: Name,
    kind: RecordType,
    datagram: bool,
}

impl Follow {
    /// What to ask whoever knows the rest.
    pub fn question(&self) -> Option<Vec<u8>> {
        let metadata = &self.request.metadata;
        let mut question = Message::query();
        question.metadata.id = metadata.id;
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(self.target.clone(), self.kind));
        question.to_vec().ok()
    }

    /// The whole answer, of what they said.
    pub fn finish(self, said: Option<&[u8]>) -> Response {
        let said = said.and_then(|said| Message::from_vec(said).ok());
        let code = said.as_ref().map_or(ResponseCode::ServFail, |said| said.metadata.response_code);
        let mut response = reply(&self.request, code);
        response.answers = self.answers;
        // Half an answer: the client asks again over a stream.
        response.metadata.truncation = said.as_ref().is_some_and(|said| said.metadata.truncation);
        response.answers.extend(said.map(|said| said.answers).unwrap_or_default());
        encode(&self.request, response, self.datagram)
    }
}

/// Answers one message. `datagram` says that the answer must fit one; else it may be as long as a message can be.
pub fn answer(zone: &Zone, question: &[u8], datagram: bool) -> Response {
    let Ok(request) = Message::from_vec(question) else { return Response::Nothing };
    if request.metadata.message_type != MessageType::Query {
        return Response::Nothing;
    }
    let [query] = request.queries.as_slice() else { return refusal(&request, ResponseCode::FormErr) };
    if request.metadata.op_code != OpCode::Query || query.query_class() != DNSClass::IN {
        return refusal(&request, ResponseCode::NotImp);
    }
    let name = query.name().clone();
    let kind = query.query_type();
    let (mut code, mut answers) = match zone.look_up(&name.to_ascii()) {
        Answer::Foreign => return Response::Elsewhere,
        Answer::Unknown => (ResponseCode::NXDomain, Vec::new()),
        Answer::Names(names) if matches!(kind, RecordType::PTR | RecordType::ANY) => {
            let names = names.iter().filter_map(|own| Some(RData::PTR(PTR(in_zone(zone, own)?))));
            (ResponseCode::NoError, names.map(|data| Record::from_rdata(name.clone(), TTL, data)).collect())
        }
        Answer::Names(_) => (ResponseCode::NoError, Vec::new()),
        Answer::Known(data) => (ResponseCode::NoError, records(zone, &name, kind, data)),
    };
    // An alias may lead to another one of the zone; a ring of them is left after some steps.
    for _ in 0..ALIASES {
        let target = match answers.last().map(|last| &last.data) {
            Some(RData::CNAME(CNAME(target))) if !matches!(kind, RecordType::CNAME | RecordType::ANY) => {
                target.clone()
            }
            _ => break,
        };
        match zone.look_up(&target.to_ascii()) {
            Answer::Foreign => {
                return Response::Follow(Box::new(Follow { request, answers, target, kind, datagram }));
            }
            Answer::Known(data) => {
                let more = records(zone, &target, kind, data);
                if more.is_empty() {
                    break;
                }
                answers.extend(more);
            }
            Answer::Names(_) => break,
            Answer::Unknown => {
                code = ResponseCode::NXDomain;
                break;
            }
        }
    }
    let mut response = reply(&request, code);
    response.metadata.authoritative = true;
    if answers.is_empty() {
        response.authorities.extend(authority(zone));
    }
    response.additionals = additionals(zone, &answers);
    response.answers = answers;
    encode(&request, response, datagram)
}

/// An answer that says only that there is none.
pub fn failure(question: &[u8]) -> Response {
    match Message::from_vec(question) {
        Ok(request) => refusal(&request, ResponseCode::ServFail),
        Err(_) => Response::Nothing,
    }
}

fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.queries.clone_from(&request.queries);
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM.1);
        response.edns = Some(edns);
    }
    response
}

fn refusal(request: &Message, code: ResponseCode) -> Response {
    encode(request, reply(request, code), true)
}

fn encode(request: &Message, mut response: Message, datagram: bool) -> Response {
    let room =
        request.edns.as_ref().map_or(DATAGRAM.0, |edns| edns.max_payload().clamp(DATAGRAM.0, DATAGRAM.1));
    let Ok(bytes) = response.to_vec() else { return Response::Nothing };
    if !datagram || bytes.len() <= usize::from(room) {
        return Response::Say(bytes);
    }
    // The client asks again over a stream.
    response.metadata.truncation = true;
    response.answers.clear();
    response.additionals.clear();
    response.to_vec().map_or(Response::Nothing, Response::Say)
}

fn records(zone: &Zone, name: &Name, kind: RecordType, data: &[Data]) -> Vec<Record> {
    let any = kind == RecordType::ANY;
    let wanted = data.iter().filter_map(|data| match data {
        Data::Address(IpAddr::V4(address)) if any || kind == RecordType::A => Some(RData::A(A(*address))),
        Data::Address(IpAddr::V6(address)) if any || kind == RecordType::AAAA => {
            Some(RData::AAAA(AAAA(*address)))
        }
        Data::Port { port, target, among } if any || kind == RecordType::SRV => {
            Some(RData::SRV(SRV::new(0, 100 / (*among).max(1), *port, in_zone(zone, target)?)))
        }
        // An alias answers every question: the client follows it.
        Data::Alias(alias) => Some(RData::CNAME(CNAME(Name::from_ascii(format!("{alias}.")).ok()?))),
        Data::Text(text) if any || kind == RecordType::TXT => {
            Some(RData::TXT(TXT::new(vec![(*text).to_owned()])))
        }
        _ => None,
    });
    wanted.map(|data| Record::from_rdata(name.clone(), TTL, data)).collect()
}

/// The addresses of what the answers point at, so that nobody has to ask again.
fn additionals(zone: &Zone, answers: &[Record]) -> Vec<Record> {
    let targets = answers.iter().filter_map(|answer| match &answer.data {
        RData::SRV(port) => Some(port.target.clone()),
        _ => None,
    });
    let addresses = targets.flat_map(|target| match zone.look_up(&target.to_ascii()) {
        Answer::Known(data) => {
            [RecordType::A, RecordType::AAAA].map(|kind| records(zone, &target, kind, data)).concat()
        }
        _ => Vec::new(),
    });
    addresses.collect()
}

fn in_zone(zone: &Zone, own: &str) -> Option<Name> {
    Name::from_ascii(format!("{own}.{}.", zone.domain())).ok()
}

/// Who is asked about the zone, which says how long a "no" may be remembered.
fn authority(zone: &Zone) -> Option<Record> {
    let domain = Name::from_ascii(format!("{}.", zone.domain())).ok()?;
    let (server, person) = (in_zone(zone, "ns.dns")?, in_zone(zone, "hostmaster")?);
    let data = RData::SOA(SOA::new(server, person, 1, 7200, 1800, 86_400, TTL));
    Some(Record::from_rdata(domain, TTL, data))
}
