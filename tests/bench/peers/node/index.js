'use strict';

// A bridge as one writes it first: blocks from a queue that is bound to the exchange, and their
// events, as BigchainDB 2.2.2 has them, to every client. Nothing is kept.
//
// Run with URI and EXCHANGE; its first line says where it listens.

const amqp = require('amqplib');
const { WebSocketServer } = require('ws');

function event(height, { id, operation, asset }) {
  const assetId = operation === 'TRANSFER' ? asset.id : id;
  const text = `{"height": ${height}, "asset_id": "${assetId}", "transaction_id": "${id}"}`;
  // Once per event rather than once per client.
  return Buffer.from(text);
}

async function main() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
  const connection = await amqp.connect(process.env.URI);
  const channel = await connection.createChannel();
  await channel.assertExchange(process.env.EXCHANGE, 'topic', { durable: true });
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.bindQueue(queue, process.env.EXCHANGE, 'block.#');
  await channel.prefetch(32);
  await channel.consume(queue, (message) => {
    const { height, transactions } = JSON.parse(message.content);
    const events = transactions.map((transaction) => event(height, transaction));
    for (const client of server.clients) {
      for (const text of events) client.send(text, { binary: false });
    }
    channel.ack(message);
  });
  const { address, port } = server.address();
  console.log(`${address}:${port}`);
}

main();
