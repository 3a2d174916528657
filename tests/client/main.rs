//! Prints the transactions of a stream from its oldest block on.

use blockcast::client::{Builder, Start, StreamMessage};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: blockcast-follower URL")?;
    let mut stream = Builder::new(&url)?.start(Start::Oldest).build()?;
    while let Some(message) = stream.next().await? {
        if let StreamMessage::Event(event) = message {
            println!("{} {}", event.height, event.transaction_id);
        }
    }
    Ok(())
}
