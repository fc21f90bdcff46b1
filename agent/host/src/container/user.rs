//! Whom a container runs as: `user`, `uid`, `user:group` or `uid:gid`, by the container's own passwd and group files.

use std::io;
use std::path::Path;

use super::inside::Inside;

/// The ids of a process, and where its home is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// The primary group and those whose member the user is.
    pub groups: Vec<u32>,
    pub home: String,
}

/// A user or group that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("user `{0}`: the image's /etc/passwd has no such user")]
    NoUser(String),
    #[error("group `{0}`: the image's /etc/group has no such group")]
    NoGroup(String),
    #[error("{path} of the image")]
    File {
        path: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Looks a user up in a root file system. Nobody stated is root.
pub fn look_up(inside: &Inside, user: Option<&str>) -> Result<Identity, UserError> {
    let read = |path| inside.read_text(Path::new(path)).map_err(|source| UserError::File { path, source });
    identify(user.unwrap_or("0"), &read("/etc/passwd")?, &read("/etc/group")?)
}

/// One line of passwd(5).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn account(line: &str) -> Option<Account<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
    Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
}

/// Decides by the contents of both files, as Docker does: a number need not be in them, a name must.
pub fn identify(user: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let accounts = || passwd.lines().filter_map(account);
    let found = accounts().find(|account| account.name == user).or_else(|| accounts().find(|a| Some(a.uid) == number));
    let uid = match (&found, number) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    let mut groups = Vec::new();
    let gid = match wanted_group {
        Some(name) => {
            let entry = group.lines().find(|line| line.split(':').next() == Some(name));
            let listed = entry.and_then(|line| line.split(':').nth(2)?.parse().ok());
            listed.or_else(|| name.parse().ok()).ok_or_else(|| UserError::NoGroup(name.to_owned()))?
        }
        None => {
            if let Some(account) = &found {
                groups.extend(group.lines().filter_map(|line| membership(line, account.name)));
            }
            found.as_ref().map_or(0, |account| account.gid)
        }
    };
    groups.retain(|other| *other != gid);
    groups.insert(0, gid);
    groups.dedup();
    let home = found.map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Ok(Identity { uid, gid, groups, home })
}

/// Gives the id of a group of group(5) that lists the user as a member.
fn membership(line: &str, user: &str) -> Option<u32> {
    let fields: Vec<&str> = line.split(':').collect();
    let [_, _, gid, members, ..] = fields.as_slice() else { return None };
    members.split(',').any(|member| member == user).then(|| gid.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
