"""BigchainDB's own web application over recorded blocks, with mongomock in place of MongoDB."""

import mongomock
import pymongo

import serving

pymongo.MongoClient = mongomock.MongoClient

import bigchaindb
from bigchaindb import BigchainDB
from bigchaindb.events import Event, EventTypes
from bigchaindb.models import Transaction
from bigchaindb.web import server, websocket_server


def main():
    blocks, tip = serving.arguments()
    bigchaindb.config["CONFIGURED"] = True  # nothing of this machine's environment counts
    stream = serving.Stream(bigchaindb.config)
    stream.start(websocket_server.start)
    node = BigchainDB()

    def commit(height):
        transactions = [Transaction.from_dict(tx) for tx in blocks[height]["transactions"]]
        ids = [transaction.id for transaction in transactions]
        if transactions:
            node.store_bulk_transactions(transactions)
        node.store_block({"app_hash": "", "height": height, "transactions": ids})
        event = {"height": height, "transactions": transactions}
        return Event(EventTypes.BLOCK_VALID, event)

    def create_server(settings):
        return server.create_server(settings, bigchaindb_factory=lambda: node)

    serving.run(create_server, commit, stream, tip)


main()
