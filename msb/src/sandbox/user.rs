//! `user[:group]`, looked up in the sandbox's own files: an image may name its user, and the runtime takes numbers.

use std::{io, path::Path};

use super::beneath::Beneath;

/// passwd(5) and group(5) of an image are not longer.
const LONGEST: u64 = 1 << 20;
/// What uids and gids can be: the kernel's -1 is none.
const HIGHEST: u32 = u32::MAX - 1;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// Its home; none: it is in no passwd(5).
    pub home: Option<String>,
}

/// Why there is no such user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The files.
    #[error("The image's users can't be read")]
    Read(#[from] io::Error),
    /// No such user.
    #[error("The image has no user {0:?}: give a number, or one that is in its /etc/passwd")]
    User(String),
    /// No such group.
    #[error("The image has no group {0:?}: give a number, or one that is in its /etc/group")]
    Group(String),
}

/// Finds `text` in the root's files; empty: root.
///
/// # Errors
/// [`UserError`]
pub fn find(root: &Beneath, text: &str) -> Result<User, UserError> {
    let read = |path: &str| -> io::Result<String> {
        let bytes = root.read(Path::new(path), LONGEST)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    look_up(text, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn look_up(text: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user, of) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok().filter(|number| *number <= HIGHEST);
    let named = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        // A name that looks like a number is a name first, as with Docker.
        (name == user || number == Some(uid))
            .then(|| (name, uid, gid, fields.get(5).map(ToString::to_string)))
    });
    let (name, uid, gid, home) = match (named, number) {
        (Some((name, uid, gid, home)), _) => (Some(name), uid, gid, home),
        (None, Some(uid)) => (None, uid, 0, None),
        (None, None) => return Err(UserError::User(user.to_owned())),
    };
    let groups = |line: &str| -> Option<(String, u32, bool)> {
        let fields: Vec<&str> = line.split(':').collect();
        let member =
            name.is_some_and(|name| fields.get(3).is_some_and(|all| all.split(',').any(|one| one == name)));
        Some(((*fields.first()?).to_owned(), fields.get(2)?.parse().ok()?, member))
    };
    let Some(of) = of.filter(|of| !of.is_empty()) else {
        let mut groups: Vec<u32> = group
            .lines()
            .filter_map(groups)
            .filter(|(_, _, member)| *member)
            .map(|(_, gid, _)| gid)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        return Ok(User { uid, gid, groups, home });
    };
    let found = group.lines().filter_map(groups).find(|(name, ..)| name == of).map(|(_, gid, _)| gid);
    let gid = found.or_else(|| of.parse().ok().filter(|gid| *gid <= HIGHEST));
    // Who names the group gets no other, as with Docker.
    Ok(User { uid, gid: gid.ok_or_else(|| UserError::Group(of.to_owned()))?, groups: Vec::new(), home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001::/srv/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:app,other\napp:x:1001:\nbad:x:none:app\n";

    #[test]
    fn names_numbers_and_groups() {
        let find = |text| look_up(text, PASSWD, GROUP);
        let root = User { uid: 0, gid: 0, groups: vec![], home: Some("/root".into()) };
        assert_eq!(find("").unwrap(), root);
        let app = User { uid: 1000, gid: 1001, groups: vec![44], home: Some("/srv/app".into()) };
        assert_eq!(find("app").unwrap(), app);
        assert_eq!(find("1000").unwrap(), app);
        assert_eq!(find("app:video").unwrap(), User { gid: 44, groups: vec![], ..app.clone() });
        assert_eq!(find("7:8").unwrap(), User { uid: 7, gid: 8, groups: vec![], home: None });
        for bad in ["nobody", "-1", "app:none", "4294967295", "app:4294967295"] {
            find(bad).unwrap_err();
        }
    }

    #[test]
    fn an_image_without_users_has_numbers() {
        assert_eq!(look_up("", "", "").unwrap(), User { uid: 0, gid: 0, groups: vec![], home: None });
        look_up("app", "", "").unwrap_err();
    }
}
