//! What Kubernetes says of its kinds and of their fields: what `kubectl explain` shows.
//!
//! The text is held compressed and unpacked for as long as somebody makes a document of it. Where it comes from is told in
//! this crate's `build.rs`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use flate2::read::DeflateDecoder;

/// What `build.rs` made.
const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// Words of our own for what upstream says nothing of.
const UNSAID: &str = include_str!("../schema/unsaid.txt");

/// All descriptions, unpacked: about a megabyte.
pub struct Descriptions {
    text: String,
    /// By a definition's full name, where in the text its lines begin and end. Our own words come behind upstream's.
    definitions: HashMap<Box<str>, Vec<(usize, usize)>>,
}

impl std::fmt::Debug for Descriptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "descriptions of {} definitions", self.definitions.len())
    }
}

impl Descriptions {
    /// Unpacks them: some milliseconds.
    pub fn unpack() -> Self {
        let mut text = String::new();
        // What the build wrote can be read; were it torn, kinds would be without words and still be served.
        let read = DeflateDecoder::new(COMPRESSED).read_to_string(&mut text);
        if read.is_err() {
            text.clear();
        }
        text.push_str(UNSAID);
        let mut definitions: HashMap<Box<str>, Vec<(usize, usize)>> = HashMap::new();
        let mut name: Box<str> = "".into();
        let (mut begun, mut offset) = (0, 0);
        for line in text.split_inclusive('\n') {
            if let Some(next) = line.strip_prefix(':') {
                let next = next.split('\t').next().unwrap_or_default().trim_end();
                definitions
                    .entry(std::mem::replace(&mut name, next.into()))
                    .or_default()
                    .push((begun, offset));
                begun = offset;
            }
            offset += line.len();
        }
        definitions.entry(name).or_default().push((begun, offset));
        Self { text, definitions }
    }

    /// What is said of a definition, and of each of its fields, by their names. Both are empty where nothing is.
    pub fn of(&self, name: &str) -> Description<'_> {
        let mut found = Description::default();
        let parts = self.definitions.get(name).map(Vec::as_slice).unwrap_or_default();
        let lines =
            parts.iter().flat_map(|(start, end)| self.text.get(*start..*end).unwrap_or_default().lines());
        for line in lines {
            let Some((name, said)) = line.split_once('\t') else { continue };
            let said = plain(said);
            if name.starts_with(':') {
                found.itself = said;
            } else {
                found.fields.insert(name, said);
            }
        }
        found
    }
}

/// What is said of one definition.
#[derive(Debug, Default)]
pub struct Description<'a> {
    /// Of itself.
    pub itself: Cow<'a, str>,
    /// Of its fields.
    pub fields: HashMap<&'a str, Cow<'a, str>>,
}

fn plain(written: &str) -> Cow<'_, str> {
    if !written.contains('\\') {
        return Cow::Borrowed(written);
    }
    let mut plain = String::with_capacity(written.len());
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(match characters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => '\\',
            }),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::builtin;

    #[test]
    fn what_is_written_in_one_line_is_read_as_it_was() {
        assert_eq!(plain("a\\nb\\\\n"), "a\nb\\n");
        assert_eq!(plain("plain"), "plain");
    }

    #[test]
    fn pods_are_described() {
        let all = Descriptions::unpack();
        let pod = all.of("io.k8s.api.core.v1.Pod");
        assert!(pod.itself.starts_with("Pod is a collection of containers"), "{}", pod.itself);
        assert!(pod.fields["spec"].starts_with("Specification of the desired behavior"), "{pod:?}");
        assert!(all.of("io.k8s.Nothing").itself.is_empty());
        assert!(all.text.len() > 500_000 && COMPRESSED.len() < all.text.len() / 3, "{}", COMPRESSED.len());
    }

    #[test]
    fn upstream_says_nothing_of_what_we_say_ourselves() {
        let all = Descriptions::unpack();
        for (name, parts) in &all.definitions {
            let of = |(start, end): &(usize, usize)| -> Vec<&str> {
                all.text[*start..*end].lines().filter_map(|line| Some(line.split_once('\t')?.0)).collect()
            };
            if let [theirs, ours] = parts.as_slice() {
                assert!(of(ours).iter().all(|field| !of(theirs).contains(field)), "{name}");
            }
            assert!(parts.len() <= 2 && builtin().definition(name).is_some() || name.is_empty(), "{name}");
        }
    }

    /// Every field of every kind that is served, however deep.
    #[test]
    fn every_field_of_every_kind_is_described() {
        let all = Descriptions::unpack();
        let roots = crate::kinds::ALL.iter().filter_map(|kind| builtin().definition_name(&kind.gvk()));
        let mut silent = Vec::new();
        for name in builtin().closure(roots) {
            let said = all.of(name);
            if said.itself.is_empty() {
                silent.push(name.to_owned());
            }
            let Some(definition) = builtin().definition(name) else { continue };
            for property in &definition.get().properties {
                if said.fields.get(&*property.name).is_none_or(|said| said.is_empty()) {
                    silent.push(format!("{name}.{}", property.name));
                }
            }
        }
        assert!(silent.is_empty(), "nothing is said of {silent:#?}");
    }
}
