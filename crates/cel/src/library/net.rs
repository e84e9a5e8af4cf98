//! Addresses and networks.

use std::net::IpAddr;

use apimachinery::cidr::Cidr;
use apimachinery::field::quote;

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Library, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl("ip", Cost::Ip, ip, &[("string_to_ip", "(string) -> IP"), ("cidr_ip", "CIDR.() -> IP")]),
    decl("isIP", Cost::Once, is_ip, &[("is_ip", "(string) -> bool")]),
    decl("ip.isCanonical", Cost::Twice, is_canonical, &[("ip_is_canonical", "(string) -> bool")]),
    decl("family", Cost::One, family, &[("ip_family", "IP.() -> int")]),
    decl("isUnspecified", Cost::One, is_unspecified, &[("ip_is_unspecified", "IP.() -> bool")]),
    decl("isLoopback", Cost::One, is_loopback, &[("ip_is_loopback", "IP.() -> bool")]),
    decl(
        "isLinkLocalMulticast",
        Cost::One,
        is_link_local_multicast,
        &[("ip_is_link_local_multicast", "IP.() -> bool")],
    ),
    decl(
        "isLinkLocalUnicast",
        Cost::One,
        is_link_local_unicast,
        &[("ip_is_link_local_unicast", "IP.() -> bool")],
    ),
    decl("isGlobalUnicast", Cost::One, is_global_unicast, &[("ip_is_global_unicast", "IP.() -> bool")]),
    decl("cidr", Cost::Once, cidr, &[("string_to_cidr", "(string) -> CIDR")]),
    decl("isCIDR", Cost::Once, is_cidr, &[("is_cidr", "(string) -> bool")]),
    decl(
        "containsIP",
        Cost::ContainsIp,
        contains_ip,
        &[("cidr_contains_ip_string", "CIDR.(string) -> bool"), ("cidr_contains_ip_ip", "CIDR.(IP) -> bool")],
    ),
    decl(
        "containsCIDR",
        Cost::ContainsCidr,
        contains_cidr,
        &[
            ("cidr_contains_cidr_string", "CIDR.(string) -> bool"),
            ("cidr_contains_cidr", "CIDR.(CIDR) -> bool"),
        ],
    ),
    decl("prefixLength", Cost::One, prefix_length, &[("cidr_prefix_length", "CIDR.() -> int")]),
    decl("masked", Cost::One, masked, &[("cidr_masked", "CIDR.() -> CIDR")]),
];

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let quoted = quote(text);
    if text.contains('%') {
        return Err(EvalError::new(format!("IP address {quoted} with zone value is not allowed")));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        let why = format!("ParseAddr({quoted}): unable to parse IP");
        EvalError::new(format!("IP Address {quoted} parse error during conversion from string: {why}"))
    })?;
    if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return Err(EvalError::new(format!("IPv4-mapped IPv6 address {quoted} is not allowed")));
    }
    Ok(address)
}

fn parse_cidr(text: &str) -> Result<Cidr, EvalError> {
    let quoted = quote(text);
    let fault = |why: &str| {
        EvalError::new(format!("network address parse error during conversion from string: {why}"))
    };
    let parse = |why: &str| {
        fault(&format!(
            "network address parse error during conversion from string: netip.ParsePrefix({quoted}): {why}"
        ))
    };
    let (address, length) = text.rsplit_once('/').ok_or_else(|| parse("no '/'"))?;
    let address: IpAddr = address.parse().map_err(|_| parse("unable to parse IP"))?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (length.len() == 1 || !length.starts_with('0'));
    let prefix = length.parse::<u8>().ok().filter(|_| plain);
    let prefix = prefix.ok_or_else(|| parse(&format!("bad bits after slash: {}", quote(length))))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if prefix > most {
        return Err(parse("prefix length out of range"));
    }
    if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return Err(fault(&format!("IPv4-mapped IPv6 address {quoted} is not allowed")));
    }
    Ok(Cidr { address, prefix })
}

fn network(cidr: &Cidr) -> Value<'static> {
    Value::Library(Library::Cidr(cidr.address, cidr.prefix))
}

fn ip<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text)] => {
            context.bytes(text.len())?;
            parse_ip(text).map(Value::ip)
        }
        [Value::Library(Library::Cidr(address, _))] => Ok(Value::ip(*address)),
        _ => no_overload(),
    }
}

fn is_ip<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    Ok(Value::Bool(parse_ip(text).is_ok()))
}

fn is_canonical<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    Ok(Value::Bool(parse_ip(text)?.to_string() == **text))
}

fn about<'a>(args: &[Value<'a>], of: impl Fn(&IpAddr) -> bool) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Ip(address))] => Ok(Value::Bool(of(address))),
        _ => no_overload(),
    }
}

fn family<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Ip(address))] => Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 })),
        _ => no_overload(),
    }
}

fn is_unspecified<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    about(args, IpAddr::is_unspecified)
}

fn is_loopback<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    about(args, IpAddr::is_loopback)
}

fn link_local_unicast(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments().first().is_some_and(|first| first & 0xffc0 == 0xfe80),
    }
}

fn is_link_local_unicast<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    about(args, link_local_unicast)
}

fn is_link_local_multicast<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    about(args, |address| match address {
        IpAddr::V4(address) => matches!(address.octets(), [224, 0, 0, _]),
        IpAddr::V6(address) => address.segments().first().is_some_and(|first| first & 0xff0f == 0xff02),
    })
}

fn is_global_unicast<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    about(args, |address| {
        let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !(address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || link_local_unicast(address)
            || broadcast)
    })
}

fn cidr<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    parse_cidr(text).map(|cidr| network(&cidr))
}

fn is_cidr<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    Ok(Value::Bool(parse_cidr(text).is_ok()))
}

fn contains_ip<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (within, address) = match args {
        [Value::Library(Library::Cidr(address, prefix)), Value::String(text)] => {
            context.bytes(text.len())?;
            (Cidr { address: *address, prefix: *prefix }, parse_ip(text)?)
        }
        [Value::Library(Library::Cidr(address, prefix)), Value::Library(Library::Ip(ip))] => {
            (Cidr { address: *address, prefix: *prefix }, *ip)
        }
        _ => return no_overload(),
    };
    Ok(Value::Bool(within.contains(address)))
}

fn contains_cidr<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (outer, inner) = match args {
        [Value::Library(Library::Cidr(address, prefix)), Value::String(text)] => {
            context.bytes(text.len())?;
            (Cidr { address: *address, prefix: *prefix }, parse_cidr(text)?)
        }
        [Value::Library(Library::Cidr(address, prefix)), Value::Library(Library::Cidr(other, length))] => {
            (Cidr { address: *address, prefix: *prefix }, Cidr { address: *other, prefix: *length })
        }
        _ => return no_overload(),
    };
    Ok(Value::Bool(outer.prefix <= inner.prefix && outer.contains(inner.network())))
}

fn prefix_length<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Cidr(_, prefix))] => Ok(Value::Int(i64::from(*prefix))),
        _ => no_overload(),
    }
}

fn masked<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Cidr(address, prefix))] => {
            let cidr = Cidr { address: *address, prefix: *prefix };
            Ok(Value::Library(Library::Cidr(cidr.network(), *prefix)))
        }
        _ => no_overload(),
    }
}
