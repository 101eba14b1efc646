//! Unix sockets: paths that this host's programs connect to, and who these are.
//!
//! Owns: making the socket and its file, and taking the file away again. A file that is left of an engine that was killed is replaced if
//! nobody listens on it; anything else that has the name stays, and is told.
//!
//! A path has one listening socket, however many shards there are: `SO_REUSEPORT` is not for Unix sockets. All shards accept from
//! duplicates of its descriptor. (If one did, all connections through a proxy that speaks to us over the socket would be its own.)
//! The kernel wakes one of them for each connection, as accepts of io_uring wait exclusively, and whoever was woken stands last in the
//! line of those that wait: so connections are spread over the shards that rest.
//!
//! Why the unsafe is sound: each call passes a descriptor owned here and local memory with its right length.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::listen::{BACKLOG, until_free};

/// Who may connect to a path: what its file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixAccess {
    /// Permissions of the file; who may write to it may connect (unix(7)).
    pub mode: u32,
    /// Its owner; none: the user of the process.
    pub user: Option<u32>,
    /// Its group; none: that of the process.
    pub group: Option<u32>,
}

impl Default for UnixAccess {
    fn default() -> UnixAccess {
        UnixAccess { mode: 0o660, user: None, group: None }
    }
}

/// Who a process on the other end of a Unix socket was when it connected, as the kernel says (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group; not those that it is in besides.
    pub gid: u32,
    /// Its number, as this process sees it; 0: it is of another name space.
    pub pid: u32,
}

/// The file of a socket; taken away when dropped, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Takes up the file of a socket that another process has made, and handed over.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn handed(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), inode: inode(path)? })
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the file where it is: it is somebody else's now.
    pub fn leave(mut self) {
        self.inode = (0, 0);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another in its place.
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Listens on a path; a path where somebody else listens is waited for, but not for long.
///
/// # Errors
/// Somebody listens there, or the name is taken by something else; the folder is not there or not ours; the file may not have that owner.
pub fn listen_at(path: &Path, access: UnixAccess) -> io::Result<(OwnedFd, SocketFile)> {
    until_free(|| {
        make_way(path)?;
        open(path, access)
    })
}

/// Takes a file away that nobody listens on any more.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket has that name"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            // Full of those who wait to be accepted, or not for us to connect to: there is somebody.
            Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there already")),
        },
    }
}

/// Listens at a name that nobody has to know, and which has no file: for connections of this process to itself. Whoever accepts looks at
/// the [`Credentials::pid`] of who comes, as others can read the name.
///
/// # Errors
/// What the kernel said.
pub fn listen_inside() -> io::Result<(OwnedFd, net::SocketAddr)> {
    let name = format!("corecast-{}-{:016x}", std::process::id(), super::random::draw()?);
    let address = net::SocketAddr::from_abstract_name(name)?;
    Ok((UnixListener::bind_addr(&address)?.into(), address))
}

fn open(path: &Path, access: UnixAccess) -> io::Result<(OwnedFd, SocketFile)> {
    // SAFETY: makes a new descriptor, touches no memory.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all-zero bytes are a valid `sockaddr_un`.
    let mut form: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    form.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= form.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is too long for a socket"));
    }
    form.sun_path.iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte as libc::c_char);
    // SAFETY: the form is a readable socket address of the length said.
    let bound = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const form).cast(), size_of::<libc::sockaddr_un>() as libc::socklen_t)
    };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    let file = SocketFile { path: path.to_owned(), inode: inode(path)? };
    // Nobody is let in before the file says who may: until it listens, connecting is refused.
    fs::set_permissions(path, fs::Permissions::from_mode(access.mode))?;
    if access.user.is_some() || access.group.is_some() {
        chown(path, access.user, access.group)?;
    }
    // SAFETY: a system call on our own descriptor, without memory.
    if unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((fd, file))
}

/// Returns who is at the other end of a connection.
///
/// # Errors
/// What the kernel said: it is no Unix socket.
pub fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the form is writable, and of the length said.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut found).cast(), &raw mut len)
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(Credentials { uid: found.uid, gid: found.gid, pid: found.pid.cast_unsigned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    /// A folder that lives as long as the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("corecast-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The file has the permissions that were asked for, who connects is known, and the file goes with its guard.
    #[test]
    fn a_path_is_listened_on() {
        let folder = Folder::new("unix-listen");
        let path = folder.0.join("a.sock");
        let (fd, file) = listen_at(&path, UnixAccess { mode: 0o600, ..UnixAccess::default() }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let listener = UnixListener::from(fd);
        let _client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let own = fs::metadata("/proc/self").unwrap();
        assert_eq!(
            credentials(accepted.as_fd()).unwrap(),
            Credentials { uid: own.uid(), gid: own.gid(), pid: std::process::id() }
        );
        drop(file);
        assert!(!path.exists());
    }

    /// A file that nobody listens on is replaced; a socket in use, and a file that is no socket, are not touched.
    #[test]
    fn names_that_are_taken() {
        let folder = Folder::new("unix-taken");
        let path = folder.0.join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let (fd, file) = listen_at(&path, UnixAccess::default()).unwrap();
        let error = listen_at(&path, UnixAccess::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok(), "it still listens");
        // Somebody took the file away and made another: that one is not ours.
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop((fd, file));
        assert!(path.exists());
        let plain = folder.0.join("plain");
        fs::write(&plain, "precious").unwrap();
        assert_eq!(listen_at(&plain, UnixAccess::default()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&plain).unwrap(), b"precious");
        assert!(listen_at(&folder.0.join("no/such/folder"), UnixAccess::default()).is_err());
    }
}
