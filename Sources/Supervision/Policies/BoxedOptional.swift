/// An optional that takes one word while it is `nil`: for values that only a few of many objects have.
struct BoxedOptional<Value: Sendable>: Sendable {
    // At most one element. An empty array needs no allocation, and a copy shares the buffer until one of them changes.
    private var storage: [Value] = []

    init() {}

    var value: Value? {
        get { storage.first }
        set {
            guard let newValue else {
                storage = []
                return
            }
            if storage.isEmpty { storage = [newValue] } else { storage[0] = newValue }
        }
    }

    /// Calls `body` with the value without copying it, if there is one.
    func read<Result>(_ body: (Value) -> Result) -> Result? {
        storage.isEmpty ? nil : body(storage[0])
    }

    /// Changes the value in place, creating it first if there is none.
    @discardableResult
    mutating func update<Result>(orMake new: @autoclosure () -> Value, _ body: (inout Value) -> Result) -> Result {
        if storage.isEmpty { storage = [new()] }
        return body(&storage[0])
    }

    /// Changes the value in place, if there is one.
    @discardableResult
    mutating func update<Result>(_ body: (inout Value) -> Result) -> Result? {
        storage.isEmpty ? nil : body(&storage[0])
    }
}
