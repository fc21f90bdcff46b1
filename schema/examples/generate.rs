//! Writes the JSON Schemas beside the crate: `cargo run -p evenkeel-schema --example generate`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    for (name, schema) in evenkeel_schema::json_schemas() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::fs::write(&path, format!("{schema:#}\n"))?;
        println!("{}", path.display());
    }
    Ok(())
}
