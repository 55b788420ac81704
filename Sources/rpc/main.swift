print("rpc")
