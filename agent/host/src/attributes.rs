//! Which extended attributes files keep when they are unpacked or copied, and which they may lose (xattr(7)).

use rustix::io::Errno;

/// Tells whether an attribute goes along: not those by which overlayfs would be steered, and not the labels of another host.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    const LEFT_OUT: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];
    !name.is_empty() && !LEFT_OUT.iter().any(|prefix| name.starts_with(prefix))
}

/// Passes over what a file system cannot hold; a lost capability would break the program that has it. `special` is whatever is
/// neither file nor directory.
pub(crate) fn judge(result: rustix::io::Result<()>, name: &[u8], special: bool) -> rustix::io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP) if name != b"security.capability" => Ok(()),
        // Links and devices cannot hold user attributes.
        Err(Errno::PERM) if special && name.starts_with(b"user.") => Ok(()),
        other => other,
    }
}
