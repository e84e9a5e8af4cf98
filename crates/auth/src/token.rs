//! Static tokens, in the form of upstream's `--token-auth-file`: `token,user,uid,"group1,group2"`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::UserInfo;

/// The tokens of one file.
#[derive(Clone, Default)]
pub struct TokenFile {
    users: HashMap<String, Arc<UserInfo>>,
}

impl std::fmt::Debug for TokenFile {
    /// How many there are, and not what they are: a token has no place in a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenFile").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

/// Why a token file could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// A record is too short.
    #[error(
        "token file line {line} must have at least 3 columns (token, user name, user uid), found {found}"
    )]
    TooFewColumns {
        /// The line it begins on, from 1.
        line: usize,
        /// How many columns it has.
        found: usize,
    },
    /// A quote that is not closed, or stands where none may.
    #[error("token file line {line}: misplaced or unclosed quote")]
    Quote {
        /// The line, from 1.
        line: usize,
    },
}

impl TokenFile {
    /// Reads the file's text. A record with an empty token is passed over; of two records with the same token the
    /// later one counts.
    ///
    /// # Errors
    /// When a record is malformed.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut users = HashMap::new();
        for (line, record) in records(text)? {
            let [token, name, uid, rest @ ..] = record.as_slice() else {
                return Err(TokenFileError::TooFewColumns { line, found: record.len() });
            };
            if token.is_empty() {
                continue;
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups = groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect();
            let user = UserInfo { name: name.clone(), uid: uid.clone(), groups, ..UserInfo::default() };
            users.insert(token.clone(), Arc::new(user.authenticated()));
        }
        Ok(Self { users })
    }

    /// Whose token this is.
    pub fn user(&self, token: &str) -> Option<&Arc<UserInfo>> {
        self.users.get(token)
    }
}

/// The records of a CSV text (RFC 4180), each with the line that it begins on; empty lines are passed over.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, TokenFileError> {
    let mut records = Vec::new();
    let (mut record, mut field) = (Vec::new(), String::new());
    let (mut line, mut begins) = (1, 1);
    let (mut quoted, mut was_quoted) = (false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            '"' => return Err(TokenFileError::Quote { line }),
            ',' if !quoted => {
                record.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                line += 1;
                if !record.is_empty() || !field.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut field));
                    records.push((begins, std::mem::take(&mut record)));
                }
                (was_quoted, begins) = (false, line);
            }
            _ if was_quoted && !quoted => return Err(TokenFileError::Quote { line }),
            other => {
                line += usize::from(other == '\n');
                field.push(other);
            }
        }
    }
    if quoted {
        return Err(TokenFileError::Quote { line });
    }
    if !record.is_empty() || !field.is_empty() || was_quoted {
        record.push(field);
        records.push((begins, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_their_groups() {
        let text = "t1,alice,1\n\nt2,bob,2,\"dev,ops\"\r\nt3,carol,3,solo\n,nobody,4\nt1,dora,5";
        let file = TokenFile::parse(text).unwrap();
        let found = |token: &str| file.user(token).map(|user| (user.name.as_str(), user.groups.join("+")));
        assert_eq!(found("t1"), Some(("dora", "system:authenticated".into())));
        assert_eq!(found("t2"), Some(("bob", "dev+ops+system:authenticated".into())));
        assert_eq!(found("t3"), Some(("carol", "solo+system:authenticated".into())));
        assert_eq!(found(""), None);
        assert_eq!(found("t4"), None);
        assert_eq!(format!("{file:?}"), "TokenFile { users: 3, .. }");
    }

    #[test]
    fn malformed_records_name_their_line() {
        let cases = [
            ("a,b,c\na,b", TokenFileError::TooFewColumns { line: 2, found: 2 }),
            ("a,b,\"c", TokenFileError::Quote { line: 1 }),
            ("\na,b\"x\",c", TokenFileError::Quote { line: 2 }),
            ("a,\"b\"x,c", TokenFileError::Quote { line: 1 }),
        ];
        for (text, error) in cases {
            assert_eq!(TokenFile::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn quotes_may_hold_quotes_and_line_ends() {
        let file = TokenFile::parse("\"a\"\"b\",\"x\ny\",1\n").unwrap();
        assert_eq!(file.user("a\"b").unwrap().name, "x\ny");
    }
}
