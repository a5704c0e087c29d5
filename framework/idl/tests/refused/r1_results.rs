use sumac_interface::interface;

#[interface]
trait Net: Send {
    fn nothing(&self);
    fn plain(&self) -> u32;
    fn other(&self) -> Result<u32, u8>;
    fn option(&self) -> Option<u32>;
}

fn main() {}
