//! Requests to a family of generic netlink, which the kernel numbers as it loads.

use std::fmt::Debug;

use futures::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlMessage};
use netlink_proto::ConnectionHandle;
use netlink_proto::sys::SocketAddr;
use netlink_proto::sys::protocols::NETLINK_GENERIC;

use crate::links::Connection;
use crate::{Error, Result};

/// A family, in this thread's network namespace.
pub(crate) struct Generic<F>
where
    GenlMessage<F>: Debug,
{
    talk: Talk<GenlMessage<F>>,
    number: u16,
}

impl<F> Generic<F>
where
    F: GenlFamily + Debug + Send + Unpin + 'static,
    GenlMessage<F>: NetlinkSerializable + NetlinkDeserializable,
{
    /// Asks for the family's number.
    pub(crate) async fn open() -> Result<Self> {
        let what = format!("generic netlink: {}", F::family_name());
        let name = GenlCtrlAttrs::FamilyName(F::family_name().to_owned());
        let ask = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] });
        let answers = Talk::open(&what)?.request(ask, NLM_F_ACK, &what).await?;
        let number = answers.iter().flat_map(|answer| &answer.payload.nlas).find_map(|told| match told {
            GenlCtrlAttrs::FamilyId(number) => Some(*number),
            _ => None,
        });
        let number = number.ok_or_else(|| Error::Invalid(format!("{what}: the kernel tells no number")))?;
        Ok(Self { talk: Talk::open(&what)?, number })
    }

    /// Asks for all there is. `what` is for errors.
    pub(crate) async fn dump(&self, asked: F, what: &str) -> Result<Vec<F>> {
        self.request(asked, NLM_F_DUMP, what).await
    }

    /// Has something done.
    pub(crate) async fn order(&self, ordered: F, what: &str) -> Result<()> {
        self.request(ordered, NLM_F_ACK, what).await.map(drop)
    }

    async fn request(&self, payload: F, flags: u16, what: &str) -> Result<Vec<F>> {
        let mut message = GenlMessage::from_payload(payload);
        message.set_resolved_family_id(self.number);
        let answers = self.talk.request(message, flags, what).await?;
        Ok(answers.into_iter().map(|answer| answer.payload).collect())
    }
}

/// A socket.
struct Talk<M: Debug> {
    handle: ConnectionHandle<M>,
    _connection: Connection,
}

impl<M> Talk<M>
where
    M: NetlinkSerializable + NetlinkDeserializable + Debug + Send + Unpin + 'static,
{
    fn open(what: &str) -> Result<Self> {
        let (connection, handle, _) =
            netlink_proto::new_connection(NETLINK_GENERIC).map_err(Error::kernel(what))?;
        Ok(Self { handle, _connection: Connection::new(tokio::spawn(connection)) })
    }

    async fn request(&self, message: M, flags: u16, what: &str) -> Result<Vec<M>> {
        let refused = |why: String| Error::kernel(what)(std::io::Error::other(why));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        let answers = self.handle.request(message, SocketAddr::new(0, 0));
        let mut answers = answers.map_err(|error| refused(error.to_string()))?;
        let mut all = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => all.push(message),
                // No error is how it says that it has done so.
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Error::kernel(what)(error.to_io()));
                }
                NetlinkPayload::Overrun(_) => return Err(refused("the answer was cut off".to_owned())),
                _ => {}
            }
        }
        Ok(all)
    }
}
