//! Who a container's processes are: names looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use container::privileges::Identity;
use runtime::UserNamespace;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::files::UserPlan;

/// How much of such a file is read.
const MAX_FILE: u64 = 1 << 20;

/// A user of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) identity: Identity,
    /// The home directory.
    pub(crate) home: String,
}

/// Resolves against a root directory; links in it lead nowhere outside.
pub(crate) fn resolve(root: impl AsFd, plan: &UserPlan) -> Result<Person, String> {
    let read = |path: &str| read_inside(&root, path).map_err(|error| format!("the image's {path}: {error}"));
    person(plan, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// The machine's ids of a user and its group.
pub(crate) fn on_machine(identity: &Identity, ids: Option<UserNamespace>) -> Result<(u32, u32), String> {
    let Some(ids) = ids else { return Ok((identity.uid, identity.gid)) };
    let mapped = |what: &str, id: u32| {
        let last = ids.size.saturating_sub(1);
        ids.on_machine(id)
            .ok_or_else(|| format!("{what} {id}: the pod's user namespace has ids up to {last}"))
    };
    identity.groups.iter().try_for_each(|group| mapped("group", *group).map(drop))?;
    Ok((mapped("user", identity.uid)?, mapped("group", identity.gid)?))
}

fn read_inside(root: impl AsFd, path: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        other => other?,
    };
    let file = File::from(fd);
    // A fifo or a device in its place must not be read.
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn person(plan: &UserPlan, passwd: &str, group: &str) -> Result<Person, String> {
    let (user, image_group) = match plan.image.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (plan.image.as_str(), None),
    };
    // name:password:uid:gid:… and name:password:gid:members
    let rows = |text: &'_ str| -> Vec<Vec<String>> {
        let rows = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
        rows.filter(|row| row.len() >= 4).collect()
    };
    let (passwd, group) = (rows(passwd), rows(group));
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let (uid, row) = match (plan.uid, number(user)) {
        (Some(uid), _) | (None, Some(uid)) => (uid, passwd.iter().find(|row| number(&row[2]) == Some(uid))),
        (None, None) if user.is_empty() => (0, passwd.iter().find(|row| number(&row[2]) == Some(0))),
        (None, None) => {
            let row = passwd.iter().find(|row| row[0] == user);
            let row = row.ok_or_else(|| format!("the image's user {user:?} is not in its /etc/passwd"))?;
            let uid = number(&row[2]);
            (uid.ok_or_else(|| format!("the image's user {user:?} has no numeric id"))?, Some(row))
        }
    };
    // The image's group goes with the image's user only.
    let image_group = image_group.filter(|_| plan.uid.is_none());
    let gid = match (plan.gid, image_group) {
        (Some(gid), _) => gid,
        (None, Some(name)) => match number(name) {
            Some(gid) => gid,
            None => {
                let row = group.iter().find(|row| row[0] == name).and_then(|row| number(&row[2]));
                row.ok_or_else(|| format!("the image's group {name:?} is not in its /etc/group"))?
            }
        },
        (None, None) => row.and_then(|row| number(&row[3])).unwrap_or(0),
    };
    // As upstream has it: who has none is at home everywhere.
    let home = row.and_then(|row| row.get(5)).filter(|home| !home.is_empty());
    let home = home.cloned().unwrap_or_else(|| "/".to_owned());
    let mut groups = plan.groups.clone();
    // Who names a group has chosen; else those that list the user come along.
    if let Some(row) = row.filter(|_| image_group.is_none() && !plan.strict) {
        let member = |row_of: &&Vec<String>| row_of[3].split(',').any(|member| member == row[0]);
        groups.extend(group.iter().filter(member).filter_map(|row| number(&row[2])));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(Person { identity: Identity { uid, gid, groups }, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:100:101::/:\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:101:\nlogs:x:4:web,other\ndocker:x:999:web\n";

    fn check(image: &str, uid: Option<u32>, gid: Option<u32>, wanted: Result<(u32, u32, &[u32]), &str>) {
        let plan = UserPlan { image: image.into(), uid, gid, groups: vec![], strict: false };
        let found = person(&plan, PASSWD, GROUP).map(|person| person.identity);
        match wanted {
            Ok((uid, gid, groups)) => {
                assert_eq!(found, Ok(Identity { uid, gid, groups: groups.to_vec() }), "{image}")
            }
            Err(why) => assert!(found.unwrap_err().contains(why), "{image}"),
        }
    }

    #[test]
    fn users_outside_the_namespace_are_nobody() {
        let identity = |uid, gid, group| Identity { uid, gid, groups: vec![group] };
        let ids = Some(UserNamespace { base: 131_072, size: 65_536 });
        assert_eq!(on_machine(&identity(7, 65_535, 0), ids), Ok((131_079, 196_607)));
        assert_eq!(on_machine(&identity(70_000, 8, 80_000), None), Ok((70_000, 8)));
        for (identity, word) in [
            (identity(65_536, 0, 0), "user 65536"),
            (identity(0, 65_536, 0), "group 65536"),
            (identity(0, 0, u32::MAX), "group 4294967295"),
        ] {
            assert!(on_machine(&identity, ids).unwrap_err().starts_with(word));
        }
    }

    #[test]
    fn users_are_found_as_the_image_knows_them() {
        check("", None, None, Ok((0, 0, &[])));
        check("web", None, None, Ok((100, 101, &[4, 999])));
        check("100", None, None, Ok((100, 101, &[4, 999])));
        check("web:logs", None, None, Ok((100, 4, &[])));
        check("7:8", None, None, Ok((7, 8, &[])));
        check("7", None, None, Ok((7, 0, &[])));
        check("web:logs", Some(5), None, Ok((5, 0, &[])));
        check("root", Some(100), Some(3), Ok((100, 3, &[4, 999])));
        check("nobody", None, None, Err("/etc/passwd"));
        check("web:nothing", None, None, Err("/etc/group"));
        check("4294967295", None, None, Err("/etc/passwd"));
        let strict = UserPlan { image: "web".into(), groups: vec![7], strict: true, ..UserPlan::default() };
        let wanted = Identity { uid: 100, gid: 101, groups: vec![7] };
        let found = person(&strict, PASSWD, GROUP).unwrap();
        assert_eq!((found.identity, found.home.as_str()), (wanted, "/"));
        let root = UserPlan { image: "root".into(), ..UserPlan::default() };
        assert_eq!(person(&root, PASSWD, GROUP).unwrap().home, "/root");
    }
}
