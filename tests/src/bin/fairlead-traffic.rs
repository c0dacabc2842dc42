//! Servers and clients of the labs; see `tests::traffic`.

fn main() -> anyhow::Result<()> {
    tests::traffic::run(std::env::args_os())
}
