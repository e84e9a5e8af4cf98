//! nginx as the limit of what a well-made server does on this machine: fixed files over TLS, and a reverse proxy.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::tools;

/// A running nginx; ends with this value.
pub struct Nginx {
    child: Child,
    work: tempfile::TempDir,
    address: String,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master ends the workers; SIGKILL would leave them.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// Serves files of these sizes (in bytes) as `/SIZE`, over TLS with the certificate and key in this PEM file, from two workers.
    ///
    /// # Errors
    /// When nginx cannot be installed or started.
    pub fn start(credential: &Path, sizes: &[usize]) -> Result<Self> {
        let work = tempfile::tempdir()?;
        let files = work.path().join("files");
        std::fs::create_dir(&files)?;
        for size in sizes {
            std::fs::write(files.join(size.to_string()), vec![b'x'; *size])?;
        }
        let server = format!(
            "listen ADDRESS ssl; root {root}; ssl_protocols TLSv1.3;\n\
             ssl_certificate {credential}; ssl_certificate_key {credential};",
            root = files.display(),
            credential = credential.display(),
        );
        Self::serve_at("127.0.0.1", work, "2", "", &server)
    }

    /// Passes everything on to servers at these addresses, over connections that it keeps, from two workers, which may be
    /// `bound` to a processor each.
    ///
    /// # Errors
    /// When nginx cannot be installed or started.
    pub fn proxy(to: &[String], bound: bool) -> Result<Self> {
        let servers: String = to.iter().map(|address| format!("server {address}; ")).collect();
        let upstream = format!(
            "upstream behind {{ {servers} keepalive 64; keepalive_requests 1000000000; }}\n\
             proxy_http_version 1.1;"
        );
        let server = "listen ADDRESS; location / { proxy_pass http://behind; \
                      proxy_set_header Connection \"\"; proxy_set_header Host $http_host; \
                      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; \
                      proxy_set_header X-Forwarded-Host $http_host; }";
        let workers = if bound { "2; worker_cpu_affinity auto" } else { "2" };
        Self::serve_at("127.0.0.1", tempfile::tempdir()?, workers, &upstream, server)
    }

    /// Answers every path with a few bytes, from one worker at this address of the machine.
    ///
    /// # Errors
    /// When nginx cannot be installed or started.
    pub fn small(ip: &str) -> Result<Self> {
        let server = "listen ADDRESS; location / { return 200 \"hello\"; }";
        Self::serve_at(ip, tempfile::tempdir()?, "1", "", server)
    }

    /// Starts one with this inside of `http` and this of its `server`, where `ADDRESS` stands for the address and port that
    /// it gets.
    fn serve_at(ip: &str, work: tempfile::TempDir, workers: &str, http: &str, server: &str) -> Result<Self> {
        tools::debian_program("nginx", "nginx-light")?;
        let address = format!("{ip}:{}", super::free_port()?);
        let at = |name: &str| work.path().join(name).display().to_string();
        let configuration = format!(
            "user root; worker_processes {workers}; daemon off; pid {pid}; error_log {errors};\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000;\n\
             open_file_cache max=100; client_body_temp_path {body}; proxy_temp_path {proxy};\n\
             fastcgi_temp_path {body}; uwsgi_temp_path {body}; scgi_temp_path {body};\n\
             {http}\n\
             server {{ {server} }} }}\n",
            server = server.replace("ADDRESS", &address),
            pid = at("pid"),
            errors = at("errors"),
            body = at("body"),
            proxy = at("proxy"),
        );
        std::fs::write(work.path().join("nginx.conf"), configuration)?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(work.path().join("nginx.conf"))
            .args(["-p"])
            .arg(work.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting nginx")?;
        let nginx = Self { child, work, address };
        harness::eventually("nginx listens", || std::net::TcpStream::connect(&nginx.address).ok());
        Ok(nginx)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Where the file of this size is.
    pub fn url(&self, size: usize) -> String {
        debug_assert!(self.work.path().join("files").join(size.to_string()).exists());
        format!("https://{}/{size}", self.address)
    }
}
