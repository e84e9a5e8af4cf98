//! A program for a pod with `runtimeClassName: wasm`: plain Rust, nothing but the standard library. It does what its words
//! say, one after another.

use std::io::{Read, Write};
use std::process::exit;

fn main() {
    let mut words = std::env::args().skip(1);
    let mut next = || words.next().unwrap_or_default();
    loop {
        match next().as_str() {
            "" => return,
            "say" => println!("{}", next()),
            "complain" => eprintln!("{}", next()),
            "env" => println!("{}", std::env::var(next()).unwrap_or_else(|_| "(unset)".into())),
            "read" => show(std::fs::read_to_string(next())),
            "write" => show(std::fs::write(next(), next()).map(|()| "written".into())),
            "list" => show(list(&next())),
            "connect" => show(exchange(&next(), &next())),
            "fill" => fill(next().parse().unwrap_or(0)),
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(next().parse().unwrap_or(0))),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "panic" => panic!("as asked"),
            "exit" => exit(next().parse().unwrap_or(1)),
            other => {
                eprintln!("no such word: {other}");
                exit(2)
            }
        }
    }
}

fn show(result: std::io::Result<String>) {
    match result {
        Ok(text) => println!("{}", text.trim_end()),
        Err(error) => println!("error: {:?}", error.kind()),
    }
}

fn list(directory: &str) -> std::io::Result<String> {
    let names = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names.join(" "))
}

/// Sends words over TCP, and gives what comes back until the other side has no more.
fn exchange(to: &str, words: &str) -> std::io::Result<String> {
    let mut stream = std::net::TcpStream::connect(to)?;
    stream.write_all(words.replace("\\n", "\n").replace("\\r", "\r").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Takes so many mebibytes of memory, and uses them.
fn fill(mebibytes: usize) {
    let bytes = vec![1u8; mebibytes << 20];
    println!("filled {} MiB", std::hint::black_box(&bytes).len() >> 20);
}
