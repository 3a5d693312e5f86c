//! Who the command runs as: whom to become when we are root, and what an unknown user needs to be somebody.
//!
//! Works on the text of `/etc/passwd` and `/etc/group` (passwd(5), group(5)); not on the C library's lookup, which a static
//! binary cannot rely on.

use std::path::{Path, PathBuf};

use crate::commands::Class;
use crate::error::Error;

/// What is known of the users of this container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// Who we are.
    pub uid: u32,
    pub gid: u32,
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
    /// The owner of Airflow's home.
    pub home_owner: Option<(u32, u32)>,
    /// Owner, group and mode of the log folder.
    pub log_folder: Option<(u32, u32, u32)>,
}

impl Users {
    /// Whom Airflow runs as: the owner of its home, or, where that user may not write to the log folder, the owner of that. The official
    /// compose file mounts folders that belong to whoever made them, and tells its first container, root's, not who that is.
    fn airflow(&self) -> Option<(u32, u32)> {
        let (uid, gid) = self.home_owner?;
        let others =
            self.log_folder.filter(|&(owner, group, mode)| uid != 0 && owner != 0 && !is_open_to(gid, group, mode));
        Some((others.map_or(uid, |(owner, ..)| owner), gid))
    }
}

/// Whether a folder of this group and mode may be written to by all members of `gid`, whoever owns it.
pub(crate) fn is_open_to(gid: u32, group: u32, mode: u32) -> bool {
    mode & 0o003 == 0o003 || group == gid && mode & 0o030 == 0o030
}

/// What to do about who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentityStep {
    /// Give up root, and be this user.
    Become(Account),
    /// We are nobody that the system knows (OpenShift gives each start a user of its own): be somebody.
    Introduce(Account),
    /// All is well.
    Stay,
}

/// A user with what the environment says of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub uid: u32,
    pub gid: u32,
    /// The groups besides `gid`.
    pub groups: Vec<u32>,
    /// Whether it has no entry in `/etc/passwd`.
    pub unknown: bool,
    pub name: String,
    pub home: PathBuf,
}

impl Account {
    /// Its line in `/etc/passwd`.
    pub(crate) fn passwd_line(&self) -> String {
        format!("{}:x:{}:{}:{0}:{}:/sbin/nologin\n", self.name, self.uid, self.gid, self.home.display())
    }
}

/// Decides whom to be. Root gives itself up for Airflow's own commands (to whom Airflow's folders belong, or whom `AIRFLOW_UID` names), or
/// for every command when somebody is named. `home` is that of a user without an entry in `/etc/passwd`.
pub(crate) fn decide(
    run_as: Option<&str>,
    airflow_uid: Option<u32>,
    class: Class,
    users: &Users,
    home: &Path,
) -> Result<IdentityStep, Error> {
    let (uid, gid) = match (users.uid, run_as) {
        (0, Some(name)) => named(name, users)?,
        (0, None) if class == Class::Other => return Ok(IdentityStep::Stay),
        // Group 0, as the official compose file has it.
        (0, None) => airflow_uid.map(|uid| (uid, 0)).or_else(|| users.airflow()).unwrap_or((0, 0)),
        (uid, Some(name)) if named(name, users)?.0 != uid => {
            return Err(Error::CannotBecome {
                whom: name.to_owned(),
                cause: format!("we are {uid}:{}, and only root can become another user", users.gid),
            });
        }
        (uid, _) => (uid, users.gid),
    };
    // The name that the official image uses.
    let name = || "default".to_owned();
    let stranger = || Account { uid, gid, groups: Vec::new(), unknown: true, name: name(), home: home.to_owned() };
    let known = passwd_entries(&users.passwd).find(|entry| entry.uid == uid);
    if uid != users.uid {
        return Ok(IdentityStep::Become(known.map_or_else(stranger, |entry| Account {
            uid,
            gid,
            groups: groups_of(entry.name, &users.group),
            unknown: false,
            name: entry.name.to_owned(),
            home: entry.home.into(),
        })));
    }
    if known.is_some() {
        return Ok(IdentityStep::Stay);
    }
    Ok(IdentityStep::Introduce(stranger()))
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_entries(passwd: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(PasswdEntry { name, uid, gid, home: fields.nth(1)? })
    })
}

fn groups_of(name: &str, group: &str) -> Vec<u32> {
    let mut groups = Vec::new();
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        if let (Some(Ok(gid)), Some(members)) = (fields.next().map(str::parse), fields.next())
            && members.split(',').any(|member| member == name)
        {
            groups.push(gid);
        }
    }
    groups
}

/// `NAME`, `UID`, `NAME:GROUP`, `UID:GID`.
fn named(text: &str, users: &Users) -> Result<(u32, u32), Error> {
    let unknown = |what: &str, file: &str| Error::CannotBecome {
        whom: text.to_owned(),
        cause: format!("there is no {what} of that name in `{file}`"),
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let entry = |uid: Option<u32>| {
        passwd_entries(&users.passwd).find(|entry| uid.map_or(entry.name == user, |uid| entry.uid == uid))
    };
    let uid = user.parse().ok();
    let (uid, own_gid) = match (uid, entry(uid)) {
        (_, Some(entry)) => (entry.uid, entry.gid),
        // A number that nobody has is somebody all the same; group 0 is the convention for such users.
        (Some(uid), None) => (uid, 0),
        (None, None) => return Err(unknown("user", "/etc/passwd")),
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => users
                .group
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| *name == group)
                .and_then(|(_, rest)| rest.split(':').nth(1)?.parse().ok())
                .ok_or_else(|| unknown("group", "/etc/group"))?,
        },
    };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nairflow:x:50000:0:airflow:/home/airflow:/bin/bash\n";
    const GROUP: &str = "root:x:0:\ndocker:x:998:airflow,other\nairflow:x:50001:\n";

    fn users(uid: u32, home_owner: u32) -> Users {
        let (passwd, group) = (PASSWD.to_owned(), GROUP.to_owned());
        Users { uid, gid: 0, passwd, group, home_owner: Some((home_owner, 0)), log_folder: None }
    }

    fn decided(run_as: Option<&str>, class: Class, users: &Users) -> Result<IdentityStep, String> {
        decide(run_as, None, class, users, Path::new("/opt/airflow")).map_err(|error| error.to_string())
    }

    fn airflow(gid: u32) -> IdentityStep {
        let (name, home) = ("airflow".to_owned(), "/home/airflow".into());
        IdentityStep::Become(Account { uid: 50_000, gid, groups: vec![998], unknown: false, name, home })
    }

    fn stranger(uid: u32, gid: u32) -> Account {
        Account { uid, gid, groups: Vec::new(), unknown: true, name: "default".to_owned(), home: "/opt/airflow".into() }
    }

    #[test]
    fn root_becomes_the_owner_of_the_home_or_whom_it_is_told() {
        let root = users(0, 50_000);
        assert_eq!(decided(None, Class::Service, &root), Ok(airflow(0)));
        assert_eq!(decided(Some("airflow"), Class::Other, &root), Ok(airflow(0)));
        assert_eq!(decided(Some("50000:50001"), Class::Service, &root), Ok(airflow(50_001)));
        assert_eq!(decided(Some("airflow:airflow"), Class::Service, &root), Ok(airflow(50_001)));
        assert_eq!(decided(Some("1234:5"), Class::Service, &root), Ok(IdentityStep::Become(stranger(1234, 5))));
        // A shell as root was asked for; a home of root's is one that somebody chose.
        assert_eq!(decided(None, Class::Other, &root), Ok(IdentityStep::Stay));
        assert_eq!(decided(None, Class::Service, &users(0, 0)), Ok(IdentityStep::Stay));
        assert_eq!(decided(Some("root"), Class::Service, &root), Ok(IdentityStep::Stay));
    }

    #[test]
    fn root_becomes_the_user_of_the_official_compose_file() {
        let by_uid = |run_as, class| {
            decide(run_as, Some(1000), class, &users(0, 50_000), Path::new("/home/airflow"))
                .map_err(|error| error.to_string())
        };
        let home = "/home/airflow".into();
        let other = IdentityStep::Become(Account { home, ..stranger(1000, 0) });
        assert_eq!(by_uid(None, Class::Service), Ok(other));
        assert_eq!(by_uid(None, Class::Other), Ok(IdentityStep::Stay));
        assert_eq!(by_uid(Some("airflow"), Class::Service), Ok(airflow(0)));
    }

    #[test]
    fn root_becomes_the_owner_of_a_log_folder_that_the_homes_owner_may_not_write_to() {
        let with = |log_folder| Users { log_folder: Some(log_folder), ..users(0, 50_000) };
        for (log_folder, uid) in [
            ((1000, 1000, 0o40755), 1000),
            ((1000, 0, 0o40755), 1000),
            ((1000, 0, 0o40775), 50_000),
            ((1000, 1000, 0o41777), 50_000),
            ((50_000, 0, 0o40755), 50_000),
            // Root's is given to whom we become.
            ((0, 0, 0o40755), 50_000),
        ] {
            let IdentityStep::Become(account) = decided(None, Class::Service, &with(log_folder)).unwrap() else {
                panic!("{log_folder:?}: stays root")
            };
            assert_eq!((account.uid, account.gid), (uid, 0), "{log_folder:?}");
        }
        let chosen = Users { log_folder: Some((1000, 1000, 0o40755)), ..users(0, 0) };
        assert_eq!(decided(None, Class::Service, &chosen), Ok(IdentityStep::Stay));
    }

    #[test]
    fn p02_an_unknown_user_is_introduced() {
        let nobody = users(1_000_720_000, 50_000);
        let introduced = decided(None, Class::Service, &nobody);
        assert_eq!(introduced, Ok(IdentityStep::Introduce(stranger(1_000_720_000, 0))));
        assert_eq!(
            stranger(1_000_720_000, 0).passwd_line(),
            "default:x:1000720000:0:default:/opt/airflow:/sbin/nologin\n"
        );
        assert_eq!(decided(None, Class::Service, &users(50_000, 50_000)), Ok(IdentityStep::Stay));
    }

    #[test]
    fn p05_only_root_becomes_another_and_the_same_is_no_change() {
        let airflow = users(50_000, 50_000);
        assert_eq!(decided(Some("airflow"), Class::Service, &airflow), Ok(IdentityStep::Stay));
        for (run_as, user, problem) in [
            ("root", &airflow, "cannot become `root`: we are 50000:0, and only root can become another user"),
            ("airflw", &users(0, 0), "cannot become `airflw`: there is no user of that name in `/etc/passwd`"),
            ("airflow:x", &users(0, 0), "cannot become `airflow:x`: there is no group of that name in `/etc/group`"),
        ] {
            assert_eq!(decided(Some(run_as), Class::Service, user), Err(problem.to_owned()));
        }
    }
}
