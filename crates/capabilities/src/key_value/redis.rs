//! The Redis backend: a server elsewhere, over one multiplexed connection that is made again when it breaks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use egress::Connector;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo,
    RedisError,
};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::{Error, KeyValue, Keys};

/// How long a command may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands on their way at a time; the others wait.
const CONCURRENCY: usize = 1024;
/// Keys that the server looks at for one page.
const PAGE: usize = 100;
/// A token that nobody forgot (its caller died between recording the result and saying so) goes after this long.
const TOKEN_SECONDS: u64 = 30 * 24 * 3600;

/// Adds and leaves a marker with the sum, or returns what the marker holds.
const INCREMENT_ONCE: &str = "local seen = redis.call('GET', KEYS[2]) \
    if seen then return seen end \
    local sum = redis.call('INCRBY', KEYS[1], ARGV[1]) \
    local text = redis.call('GET', KEYS[1]) \
    redis.call('SET', KEYS[2], text, 'EX', ARGV[2]) \
    return text";

/// Reads key after key, and stops when they hold more than `ARGV[1]` bytes together: they are counted where they are
/// before they take memory here. What is no string is not there, as `MGET` has it.
const GET_MANY: &str = "local size, values = 0, {} \
    for at, key in ipairs(KEYS) do \
    local value = redis.pcall('GET', key) \
    if type(value) ~= 'string' then value = false else size = size + #value end \
    if size > tonumber(ARGV[1]) then return redis.error_reply('BATCHBYTES too large') end \
    values[at] = value end \
    return values";

/// A Redis server.
pub struct Redis {
    host: String,
    port: u16,
    login: RedisConnectionInfo,
    prefix: String,
    egress: Connector,
    connection: ArcSwapOption<Connection>,
    /// Held while connecting, so that a crowd of callers connects once.
    connecting: Mutex<()>,
}

struct Connection {
    handle: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Redis {
    /// Reads the address; connects at the first call.
    pub fn new(address: &str, key_prefix: &str, egress: Connector) -> Result<Self, Error> {
        let invalid = |why: &str| Error::InvalidBackend(format!("redis address: {why}"));
        if address.starts_with("rediss:") {
            return Err(invalid("TLS (rediss://) is not supported yet"));
        }
        if !address.starts_with("redis://") {
            return Err(invalid("it must start with redis://"));
        }
        let info = address.into_connection_info().map_err(|error| invalid(&error.to_string()))?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err(invalid("it must name a host"));
        };
        Ok(Self {
            host: host.clone(),
            port: *port,
            login: info.redis_settings().clone(),
            prefix: key_prefix.to_owned(),
            egress,
            connection: ArcSwapOption::empty(),
            connecting: Mutex::new(()),
        })
    }

    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.connection.load_full() {
            return Ok(connection);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(connection) = self.connection.load_full() {
            return Ok(connection);
        }
        let connecting = tokio::time::timeout(RESPONSE_TIMEOUT, self.connect()).await;
        let connection = Arc::new(connecting.map_err(|_| self.failed(&"connecting timed out"))??);
        self.connection.store(Some(connection.clone()));
        Ok(connection)
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let stream = self.egress.connect(&self.host, self.port).await.map_err(|error| self.failed(&error))?;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_concurrency_limit(CONCURRENCY);
        let (handle, driver) = MultiplexedConnection::new_with_config(&self.login, stream, config)
            .await
            .map_err(|error| self.failed(&error))?;
        let driver = tokio::spawn(driver).abort_handle();
        Ok(Connection { handle, driver })
    }

    /// Sends a command. One that may be repeated is, once, when the connection turns out to be broken.
    async fn call<T: FromRedisValue>(&self, command: &Cmd, repeatable: bool) -> Result<T, Error> {
        let mut again = repeatable;
        loop {
            let connection = self.connection().await?;
            let error = match command.query_async::<T>(&mut connection.handle.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error() {
                self.discard(&connection);
                if std::mem::take(&mut again) && !error.is_timeout() {
                    continue;
                }
            }
            return Err(self.refused(&error));
        }
    }

    /// Lets go of a broken connection, unless somebody has replaced it already.
    fn discard(&self, broken: &Arc<Connection>) {
        self.connection.compare_and_swap(broken, None);
    }

    fn refused(&self, error: &RedisError) -> Error {
        if error
            .detail()
            .is_some_and(|detail| detail.contains("not an integer") || detail.contains("overflow"))
        {
            return Error::NotAnInteger;
        }
        if error.code() == Some("BATCHBYTES") {
            // Whoever asked knows its limit.
            return Error::BatchBytes { limit: 0 };
        }
        self.failed(error)
    }

    fn failed(&self, error: &dyn fmt::Display) -> Error {
        Error::Unavailable(format!("redis at {}:{}: {error}", self.host, self.port))
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Beside the keys of the store and never among those that it lists: a zero byte keeps them apart.
    fn token(&self, token: &str) -> String {
        format!("\0monoplane:token:{}:{token}", self.prefix)
    }
}

#[async_trait]
impl KeyValue for Redis {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let value: Option<Vec<u8>> = self.call(&Cmd::get(self.key(key)), true).await?;
        Ok(value.map(Bytes::from))
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), Error> {
        self.call(&Cmd::set(self.key(key), &value[..]), true).await
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.call(&Cmd::del(self.key(key)), true).await
    }

    async fn exists(&self, key: &str) -> Result<bool, Error> {
        self.call(&Cmd::exists(self.key(key)), true).await
    }

    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        let cursor: u64 = cursor.unwrap_or("0").parse().map_err(|_| Error::UnknownCursor)?;
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(format!("{}*", glob(&self.prefix))).arg("COUNT").arg(PAGE);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.call(&command, true).await?;
        let keys = keys.iter().filter_map(|key| {
            // What is not UTF-8 was not written through here.
            let key = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
            (!key.is_empty() && !key.starts_with('\0')).then(|| key.to_owned())
        });
        Ok(Keys { keys: keys.collect(), next: (next != 0).then(|| next.to_string()) })
    }

    async fn increment(&self, key: &str, delta: i64, token: Option<&str>) -> Result<i64, Error> {
        let Some(token) = token else {
            // Not repeated: a connection that broke may have carried it.
            return self.call(&Cmd::incr(self.key(key), delta), false).await;
        };
        let mut command = redis::cmd("EVAL");
        command
            .arg(INCREMENT_ONCE)
            .arg(2)
            .arg(self.key(key))
            .arg(self.token(token))
            .arg(delta)
            .arg(TOKEN_SECONDS);
        // As text: Lua's numbers lose digits above 2^53.
        let sum: String = self.call(&command, true).await?;
        sum.parse().map_err(|_| Error::NotAnInteger)
    }

    async fn forget(&self, token: &str) -> Result<(), Error> {
        self.call(&Cmd::del(self.token(token)), true).await
    }

    async fn get_many(&self, keys: &[String], limit: usize) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("EVAL");
        command.arg(GET_MANY).arg(keys.len());
        for key in keys {
            command.arg(self.key(key));
        }
        command.arg(limit);
        match self.call::<Vec<Option<Vec<u8>>>>(&command, true).await {
            Ok(values) => Ok(values.into_iter().map(|value| value.map(Bytes::from)).collect()),
            Err(Error::BatchBytes { .. }) => Err(Error::BatchBytes { limit }),
            Err(error) => Err(error),
        }
    }

    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("MSET");
        for (key, value) in &pairs {
            command.arg(self.key(key)).arg(&value[..]);
        }
        self.call(&command, true).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        self.call(redis::cmd("DEL").arg(keys), true).await
    }

    async fn check(&self) -> Result<(), Error> {
        let _: String = self.call(&redis::cmd("PING"), true).await?;
        Ok(())
    }
}

/// Escapes what the server's patterns would not take literally.
fn glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
