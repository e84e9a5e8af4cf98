//! `monoplane token`: what a machine shows once, to become a node or an edge of this plane.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::k8s::api::core::v1::{ConfigMap, Secret};
use auth::bootstrap_token::{EDGES, NAMESPACE, NODES, SECRET_PREFIX, SECRET_TYPE};
use clap::{Args, Subcommand};
use client::kube::config::Kubeconfig;
use client::{Ambient, Api, Client, DeleteParams, ListParams, ObjectMeta, PostParams};
use jiff::SignedDuration;

use crate::flags::AtDataDir;
use crate::layout::Layout;
use crate::role::join::{CLUSTER_INFO, PUBLIC};
use crate::verbs;

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Token {
    /// Make a token, and print the command by which a machine joins with it
    Create(Create),
    /// Show the tokens, without their secrets
    List(AtDataDir),
    /// Take a token away: nobody joins with it any more. Who has stays
    Delete(Delete),
}

/// Flags of `token create`.
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// Where the state lives
    #[command(flatten)]
    at: AtDataDir,
    /// How long machines can join with it; 0s: for ever
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = crate::flags::time)]
    ttl: Duration,
    /// Let them join as edges, instead of as nodes
    #[arg(long)]
    edge: bool,
}

/// Flags of `token delete`.
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Where the state lives
    #[command(flatten)]
    at: AtDataDir,
    /// The token, or the part of it before the dot
    #[arg(value_name = "ID")]
    id: String,
}

/// Runs the verb.
///
/// # Errors
/// When there is no plane, and what the API says.
pub fn run(verb: &Token, kubeconfig: Option<PathBuf>) -> Result<()> {
    let at = match verb {
        Token::Create(flags) => &flags.at,
        Token::List(at) => at,
        Token::Delete(flags) => &flags.at,
    };
    let kubeconfig = match kubeconfig {
        Some(file) => file,
        None => Layout::new(at)?.read_endpoints()?.kubeconfig,
    };
    verbs::run(Some(kubeconfig), async |client, out| match verb {
        Token::Create(flags) => create(client, flags, out).await,
        Token::List(_) => list(client, out).await,
        Token::Delete(flags) => delete(client, &flags.id).await,
    })
}

async fn create(client: &Client, flags: &Create, out: &mut dyn Write) -> Result<()> {
    let (ttl, (verb, group)) = (flags.ttl, if flags.edge { ("edge", EDGES) } else { ("node", NODES) });
    let (server, pin) = server(client).await?;
    let ambient = Ambient::system();
    let (id, secret) = (ambient.random.suffix(6), ambient.random.suffix(16));
    let end = SignedDuration::try_from(ttl).ok().and_then(|ttl| ambient.clock.now().checked_add(ttl).ok());
    let end = end.context("--ttl: that is beyond all calendars")?;
    let mut data = vec![
        ("token-id", id.clone()),
        ("token-secret", secret.clone()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
        ("auth-extra-groups", group.to_owned()),
    ];
    if !ttl.is_zero() {
        data.push(("expiration", apimachinery::time::format(end)));
    }
    let metadata = ObjectMeta { name: Some(format!("{SECRET_PREFIX}{id}")), ..ObjectMeta::default() };
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let object = Secret {
        metadata,
        type_: Some(SECRET_TYPE.to_owned()),
        string_data: Some(data),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &object).await.context("making the token")?;
    writeln!(out, "monoplane {verb} --join {server} --token {id}.{secret} --ca-hash {pin}")?;
    Ok(())
}

/// Where machines join, and how they know that they do.
async fn server(client: &Client) -> Result<(String, String)> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), PUBLIC);
    let map = maps.get(CLUSTER_INFO).await.context("asking the server where it is")?;
    let text = map.data.unwrap_or_default().remove("kubeconfig").unwrap_or_default();
    let told = Kubeconfig::from_yaml(&text).context("what the server says of where it is")?;
    let cluster = told.clusters.into_iter().find_map(|cluster| cluster.cluster).unwrap_or_default();
    let (server, authority) = (cluster.server.unwrap_or_default(), cluster.certificate_authority_data);
    let host =
        server.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    if address.is_ok_and(|address| address.is_loopback()) {
        bail!(
            "{server} is reached by this machine alone: start the server with --bind-address, an address that others reach"
        );
    }
    use base64::Engine as _;
    let authority = base64::engine::general_purpose::STANDARD.decode(authority.unwrap_or_default())?;
    Ok((server, pki::pin(&String::from_utf8(authority)?)?))
}

async fn list(client: &Client, out: &mut dyn Write) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let tokens = secrets.list(&ListParams::default().fields(&format!("type={SECRET_TYPE}"))).await?;
    writeln!(out, "{:<8}{:<22}GROUPS", "ID", "EXPIRES")?;
    for token in tokens {
        let text = |key: &str| {
            let value = token.data.as_ref().and_then(|data| data.get(key));
            value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).filter(|text| !text.is_empty())
        };
        let end = text("expiration").unwrap_or_else(|| "never".to_owned());
        let (id, groups) =
            (text("token-id").unwrap_or_default(), text("auth-extra-groups").unwrap_or_default());
        writeln!(out, "{id:<8}{end:<22}{groups}")?;
    }
    Ok(())
}

async fn delete(client: &Client, id: &str) -> Result<()> {
    let id = id.split_once('.').map_or(id, |(id, _)| id);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let name = format!("{SECRET_PREFIX}{id}");
    secrets
        .delete(&name, &DeleteParams::default())
        .await
        .with_context(|| format!("taking the token {id} away"))?;
    Ok(())
}
