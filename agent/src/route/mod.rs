//! Pod routes and the overlay in the kernel: `image` says what should be there, `netlink` reads and
//! writes it, `keeper` keeps it so.

pub mod hops;
pub mod image;
pub mod keeper;
pub mod netlink;
