import CSQLite

/// A minimal SQLite database for the example. Its calls block the thread while the disk works.
public actor Database {
    /// The value of a column.
    public enum Value: Sendable, Hashable {
        case null
        case integer(Int64)
        case text(String)
        case bytes([UInt8])
    }

    private let handle: Handle

    /// Opens the file, or creates it.
    public init(_ path: String) throws(DatabaseError) {
        handle = try Handle(path)
        try handle.run("PRAGMA busy_timeout = 10000")
        // Committed data is on the disk, whatever happens to the machine.
        try handle.run("PRAGMA journal_mode = WAL")
        try handle.run("PRAGMA synchronous = FULL")
    }

    /// Runs one statement and returns its rows.
    @discardableResult
    public func run(_ statement: String, _ values: Value...) throws(DatabaseError) -> [[Value]] {
        try handle.run(statement, values)
    }

    /// Runs the body in a transaction, which is rolled back if the body throws.
    public func transaction<Result>(
        _ body: @Sendable (isolated Database) throws(DatabaseError) -> Result
    ) throws(DatabaseError) -> Result {
        try handle.run("BEGIN IMMEDIATE")
        do throws(DatabaseError) {
            let result = try body(self)
            try handle.run("COMMIT")
            return result
        } catch {
            _ = try? handle.run("ROLLBACK")
            throw error
        }
    }
}

/// An error from SQLite.
public struct DatabaseError: Error, CustomStringConvertible {
    /// SQLite's error code.
    public let code: Int32
    /// SQLite's error message.
    public let description: String
}

/// A connection, closed when it is deallocated.
private final class Handle {
    private let pointer: OpaquePointer

    init(_ path: String) throws(DatabaseError) {
        var opened: OpaquePointer?
        let code = sqlite3_open_v2(
            path,
            &opened,
            SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
            nil
        )
        guard code == SQLITE_OK, let opened else {
            sqlite3_close_v2(opened)
            throw DatabaseError(code: code, description: "cannot open \(path)")
        }
        pointer = opened
    }

    deinit {
        sqlite3_close_v2(pointer)
    }

    @discardableResult
    func run(_ text: String, _ values: [Database.Value] = []) throws(DatabaseError) -> [[Database.Value]] {
        var prepared: OpaquePointer?
        try check(sqlite3_prepare_v2(pointer, text, -1, &prepared, nil))
        defer { sqlite3_finalize(prepared) }
        for (value, index) in zip(values, Int32(1)...) { try check(bind(value, at: index, of: prepared)) }
        var rows: [[Database.Value]] = []
        while true {
            let code = sqlite3_step(prepared)
            if code == SQLITE_DONE { return rows }
            guard code == SQLITE_ROW else { throw failure(code) }
            rows.append((0..<sqlite3_column_count(prepared)).map { column($0, of: prepared) })
        }
    }

    private func bind(_ value: Database.Value, at index: Int32, of statement: OpaquePointer?) -> Int32 {
        // SQLite copies the bytes.
        let copies = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        return switch value {
        case .null: sqlite3_bind_null(statement, index)
        case .integer(let number): sqlite3_bind_int64(statement, index, number)
        case .text(let text): sqlite3_bind_text(statement, index, text, Int32(clamping: text.utf8.count), copies)
        case .bytes(let bytes): sqlite3_bind_blob64(statement, index, bytes, UInt64(bytes.count), copies)
        }
    }

    private func column(_ index: Int32, of statement: OpaquePointer?) -> Database.Value {
        switch sqlite3_column_type(statement, index) {
        case SQLITE_INTEGER: return .integer(sqlite3_column_int64(statement, index))
        case SQLITE_TEXT:
            guard let text = sqlite3_column_text(statement, index) else { return .null }
            return .text(String(cString: text))
        case SQLITE_BLOB:
            let count = Int(sqlite3_column_bytes(statement, index))
            guard let bytes = sqlite3_column_blob(statement, index) else { return .bytes([]) }
            return .bytes(Array(UnsafeRawBufferPointer(start: bytes, count: count)))
        default: return .null
        }
    }

    private func check(_ code: Int32) throws(DatabaseError) {
        if code != SQLITE_OK { throw failure(code) }
    }

    private func failure(_ code: Int32) -> DatabaseError {
        DatabaseError(code: code, description: String(cString: sqlite3_errmsg(pointer)))
    }
}
