//! What the mount table says about a folder: does it outlive the container?
//!
//! Reads the text of `/proc/self/mountinfo` (proc(5)); looks at no file.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The folder that keeps the secrets, unless somebody says otherwise.
pub(crate) const KEY_DIR: &str = "/keys";

/// How long what is written to a folder is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// On an anonymous volume: it looks persistent, and is private to this container.
    AnonymousVolume(PathBuf),
    /// On a file system in memory, or one that ends with the pod.
    Ephemeral { mount_point: PathBuf, what: &'static str },
    /// In the container's own layer.
    NotMounted,
    /// On a mount that outlives the container.
    Persistent,
    /// The same, and nothing can be written to it.
    ReadOnly(PathBuf),
}

impl fmt::Display for Persistence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnonymousVolume(at) => {
                write!(formatter, "`{}` is an anonymous volume, which no other container shares", at.display())
            }
            Self::Ephemeral { mount_point, what } => {
                write!(formatter, "`{}` is {what}, which ends with the container", mount_point.display())
            }
            Self::NotMounted => write!(formatter, "no volume is mounted there, so it would end with the container"),
            Self::Persistent => write!(formatter, "it is on a volume"),
            Self::ReadOnly(at) => write!(formatter, "`{}` is mounted read-only", at.display()),
        }
    }
}

/// One line of the mount table.
struct Mount<'a> {
    /// The part of the file system that is mounted, octal escapes undone.
    root: PathBuf,
    mount_point: PathBuf,
    options: &'a str,
    kind: &'a str,
}

/// What is known of the mount that `path` is on. `path` is absolute; of two mounts on one point the later one counts.
pub(crate) fn persistence(mountinfo: &str, path: &Path) -> Persistence {
    let mount = mountinfo
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| path.starts_with(&mount.mount_point))
        // `max_by_key` takes the last of equals, which is the one on top.
        .max_by_key(|mount| mount.mount_point.components().count());
    let Some(mount) = mount else { return Persistence::NotMounted };
    if mount.mount_point == Path::new("/") {
        return if mount.is_disk_of_its_own() { Persistence::Persistent } else { Persistence::NotMounted };
    }
    let at = mount.mount_point.clone();
    if mount.is_read_only() {
        return Persistence::ReadOnly(at);
    }
    if matches!(mount.kind, "tmpfs" | "ramfs") {
        return Persistence::Ephemeral { mount_point: at, what: "in memory" };
    }
    if mount.root.components().any(|part| part.as_os_str() == "kubernetes.io~empty-dir") {
        return Persistence::Ephemeral { mount_point: at, what: "an emptyDir" };
    }
    if mount.is_layer() {
        return Persistence::NotMounted;
    }
    if mount.is_anonymous_volume() {
        return Persistence::AnonymousVolume(at);
    }
    Persistence::Persistent
}

/// Whether something is mounted at just this path.
pub(crate) fn is_mount_point(mountinfo: &str, path: &Path) -> bool {
    mountinfo.lines().filter_map(Mount::parse).any(|mount| mount.mount_point == path)
}

/// The folder for the keys, and another one that may hold them already. It is the one that was said; else [`KEY_DIR`], or, where nothing is
/// mounted there, one beside the `airflow.cfg` that `AIRFLOW_CONFIG` names, if that is on a volume (as in the official compose file; Airflow itself would
/// write the secrets into that file).
pub(crate) fn key_folders(
    mountinfo: &str,
    said: Option<&Path>,
    airflow_config: Option<&Path>,
) -> (PathBuf, Option<PathBuf>) {
    if let Some(said) = said {
        return (said.to_owned(), None);
    }
    let kept = |path: &Path| persistence(mountinfo, path) == Persistence::Persistent;
    let standard = PathBuf::from(KEY_DIR);
    let beside =
        airflow_config.and_then(Path::parent).filter(|folder| kept(folder)).map(|folder| folder.join("airflow-keys"));
    match beside {
        Some(beside) if !kept(&standard) => (beside, Some(standard)),
        beside => (standard, beside),
    }
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        Some(Self {
            root: unescape(fields.next()?),
            mount_point: unescape(fields.next()?),
            options: fields.next()?,
            kind: source.split(' ').next()?,
        })
    }

    fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }

    /// A file system that stacks image layers: what is written goes to the container's own.
    fn is_layer(&self) -> bool {
        matches!(self.kind, "overlay" | "aufs" | "fuse.fuse-overlayfs")
    }

    /// The root of a machine, as opposed to that of a container: engines that do not stack layers mount a folder or a subvolume
    /// of their store (`/rootfs`, `/var/lib/docker/btrfs/subvolumes/...`), or a ZFS dataset, never the whole of a disk.
    fn is_disk_of_its_own(&self) -> bool {
        let whole =
            self.root == Path::new("/") || self.kind == "btrfs" && matches!(self.root.to_str(), Some("/@" | "/root"));
        whole
            && matches!(self.kind, "btrfs" | "ext2" | "ext3" | "ext4" | "f2fs" | "jfs" | "xfs")
            && !self.is_read_only()
    }

    /// Docker and Podman name an anonymous volume by 64 hex digits and keep its files in a folder `_data`.
    fn is_anonymous_volume(&self) -> bool {
        let parts: Vec<_> = self.root.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        parts.windows(3).any(|window| {
            window[0] == "volumes"
                && window[1].len() == 64
                && window[1].bytes().all(|byte| byte.is_ascii_hexdigit())
                && window[2] == "_data"
        })
    }
}

/// Undoes the octal escapes of blanks, tabs, line ends and backslashes (proc(5)).
fn unescape(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_folder_is_where_the_keys_outlive_the_container() {
        let mount = |root: &str, at: &str| format!("36 35 98:0 {root} {at} rw,noatime - ext4 /dev/root rw\n");
        let layer = "30 20 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n".to_owned();
        let config = mount("/srv/config", "/opt/airflow/config");
        let keys = mount("/var/lib/docker/volumes/keys/_data", "/keys");
        let folders = |mounts: &str, said: Option<&str>, config: Option<&str>| {
            let (best, other) = key_folders(mounts, said.map(Path::new), config.map(Path::new));
            std::iter::once(best).chain(other).collect::<Vec<_>>()
        };
        let named = Some("/opt/airflow/config/airflow.cfg");
        let beside = "/opt/airflow/config/airflow-keys";
        for (mounts, said, airflow_config, expected) in [
            (&layer, None, None, &["/keys"][..]),
            (&layer, None, named, &["/keys"]),
            (&[&*layer, &*config].concat(), None, None, &["/keys"]),
            (&[&*layer, &*config].concat(), None, named, &[beside, "/keys"]),
            (&[&*layer, &*config, &*keys].concat(), None, named, &["/keys", beside]),
            (&[&*layer, &*config].concat(), Some("/k"), named, &["/k"]),
            (&[&*layer, &*config.replace("rw,", "ro,")].concat(), None, named, &["/keys"]),
        ] {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(folders(mounts, said, airflow_config), expected, "{mounts} {said:?}");
        }
    }

    const ROOT: &str = "72 61 0:45 / / rw,relatime master:2 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n";

    #[test]
    fn recorded_mount_tables() {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("../tests/vectors/mountinfo.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 13);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let lines: Vec<_> = case["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
            let table = format!("{ROOT}{}\n", lines.join("\n"));
            let seen = |path: &str| persistence(&table, Path::new(path));
            let (path, expected) = match case["expect"].as_str().unwrap() {
                "none" => ("/keys", Persistence::NotMounted),
                "persistent" => ("/keys", Persistence::Persistent),
                "anonymous" => ("/keys", Persistence::AnonymousVolume("/keys".into())),
                "ephemeral" if name.contains("emptyDir") => {
                    ("/keys", Persistence::Ephemeral { mount_point: "/keys".into(), what: "an emptyDir" })
                }
                "ephemeral" => ("/keys", Persistence::Ephemeral { mount_point: "/keys".into(), what: "in memory" }),
                "persistent, read-only" => ("/keys", Persistence::ReadOnly("/keys".into())),
                "file is a mount, folder is not" => {
                    assert_eq!(seen("/keys/fernet.key"), Persistence::Persistent, "{name}");
                    ("/keys", Persistence::NotMounted)
                }
                "persistent for /var/lib/airflow/keys" => ("/var/lib/airflow/keys", Persistence::Persistent),
                "persistent for '/my keys' (octal escapes)" => ("/my keys", Persistence::Persistent),
                text if text.starts_with("tmpfs and read-only") => ("/keys", Persistence::ReadOnly("/keys".into())),
                other => panic!("{name}: unknown expectation {other}"),
            };
            assert_eq!(seen(path), expected, "{name}");
        }
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_another_folder() {
        let table = format!("{ROOT}89 72 254:0 /srv/keys /keys rw - ext4 /dev/vda rw\n");
        assert_eq!(persistence(&table, Path::new("/keys2")), Persistence::NotMounted);
    }

    #[test]
    fn the_root_of_a_machine_keeps_files_and_that_of_a_container_does_not() {
        for (line, expected) in [
            ("21 1 254:0 / / rw,relatime - ext4 /dev/vda rw", Persistence::Persistent),
            ("21 1 0:25 /@ / rw,relatime - btrfs /dev/sda2 rw,subvol=/@", Persistence::Persistent),
            ("21 1 253:7 /rootfs / rw,relatime - ext4 /dev/mapper/docker-254:0-1-abc rw", Persistence::NotMounted),
            ("21 1 0:25 /docker/btrfs/subvolumes/abc / rw - btrfs /dev/sda2 rw", Persistence::NotMounted),
            ("21 1 0:40 / / rw,relatime - zfs tank/docker/abc rw", Persistence::NotMounted),
            ("21 1 0:40 / / rw,relatime - fuse.fuse-overlayfs fuse-overlayfs rw", Persistence::NotMounted),
            ("21 1 0:40 / / rw,relatime - tmpfs tmpfs rw", Persistence::NotMounted),
        ] {
            assert_eq!(persistence(line, Path::new("/srv/keys")), expected, "{line}");
        }
    }
}
