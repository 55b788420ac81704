public import Distributed
import Synchronization

/// Which methods of an actor type can be called remotely: those of a protocol that it conforms to.
///
///     Export(BankTeller.self, as: $Teller<RPCActorSystem>.self, errors: Insufficient.self)
///
/// No other method of the type can be called, whatever a peer sends: without this restriction the Swift runtime would run any distributed
/// method of any actor. Several exports of the same type are combined. A protocol that inherits from another exports only its own methods;
/// export the other one too.
///
/// A client in another language names a method as `Teller.transfer(_:note:)`. The service has to know that method by name: list it.
///
///     Export(BankTeller.self, as: $Teller<RPCActorSystem>.self, methods: [{ _ = try await $0.transfer(Transfer(), note: nil) }])
///
/// Each closure calls one method, with any arguments; only the method's name is recorded.
public struct Export: Sendable {
    let type: ObjectIdentifier
    let typeName: String
    let interface: ExportedInterface
    let errors: [any (Codable & Error).Type]
    /// Record the names of methods on the wire.
    let probes: [@Sendable (RPCActorSystem) async -> Void]

    /// Exports the methods of a protocol.
    ///
    /// - Parameters:
    ///   - type: The actor type.
    ///   - stub: The stub that `@Resolvable` generated from the protocol.
    ///   - errors: The errors that the methods throw, so that Swift callers get them back with their types.
    ///   - methods: The methods that other languages call by name.
    public init<Act: DistributedActor, Stub: DistributedActor & _DistributedActorStub>(
        _ type: Act.Type,
        as stub: Stub.Type,
        errors: any (Codable & Error).Type...,
        methods: [@Sendable (Stub) async throws -> Void] = []
    ) where Act.ActorSystem == RPCActorSystem, Stub.ActorSystem == RPCActorSystem {
        self.type = ObjectIdentifier(type)
        typeName = _typeName(type, qualified: true)
        interface = ExportedInterface(stub: stub)
        self.errors = errors
        probes = methods.map { method in
            { system in
                guard
                    let probe = try? Stub.resolve(id: ActorAddress(destination: "probe", name: "probe"), using: system)
                else {
                    return
                }
                try? await method(probe)
            }
        }
    }

    /// Exports the methods that the type itself declares, for callers that import it.
    public init<Act: DistributedActor>(_ type: Act.Type, errors: any (Codable & Error).Type...)
    where Act.ActorSystem == RPCActorSystem {
        self.type = ObjectIdentifier(type)
        typeName = _typeName(type, qualified: true)
        interface = ExportedInterface(concrete: type)
        self.errors = errors
        probes = []
    }
}

/// Lists exports.
@resultBuilder
public enum ExportsBuilder {
    /// An export.
    public static func buildExpression(_ export: Export) -> [Export] { [export] }
    /// All exports, in order.
    public static func buildBlock(_ parts: [Export]...) -> [Export] { parts.flatMap { $0 } }
    /// An `if` without `else`.
    public static func buildOptional(_ part: [Export]?) -> [Export] { part ?? [] }
    /// The first branch.
    public static func buildEither(first part: [Export]) -> [Export] { part }
    /// The second branch.
    public static func buildEither(second part: [Export]) -> [Export] { part }
    /// A `for` loop.
    public static func buildArray(_ parts: [[Export]]) -> [Export] { parts.flatMap { $0 } }
}

/// The runtime's table of distributed methods: compares names without looking up types. `executeDistributedTarget` uses it too; the
/// standard library exports it, and a toolchain without it does not link.
@_silgen_name("swift_findAccessibleFunction")
private func findAccessibleFunction(_ name: UnsafePointer<UInt8>, _ length: Int) -> UnsafeRawPointer?

/// The methods of one class, as the runtime knows them: of a stub or of an actor type.
struct ExportedInterface: Sendable {
    /// The complete mangled prefix of its methods: module and class.
    let prefix: String
    /// The generic arguments for the runtime of the class that a method is called through: the stub, if there is one.
    let substitutions: [any Any.Type]
    /// Whether its type is understood; otherwise none of its methods can be called.
    let isUsable: Bool
    /// Whether an actor implements these methods. Calling one on another actor would end the process.
    let accepts: @Sendable (any DistributedActor) -> Bool

    init(stub: any DistributedActor.Type) {
        prefix = Self.prefix(of: stub) ?? ""
        substitutions = [stub]
        let existential = Self.protocolOfStub(stub)
        isUsable = existential != nil && !prefix.isEmpty
        accepts = { actor in existential.map { Self.conforms(actor, to: $0) } ?? false }
    }

    init(concrete type: any DistributedActor.Type) {
        prefix = Self.prefix(of: type) ?? ""
        substitutions = []
        isUsable = !prefix.isEmpty
        accepts = { Swift.type(of: $0) == type }
    }

    /// `$s`, and the class without its generic arguments.
    private static func prefix(of type: any Any.Type) -> String? {
        guard let name = _mangledTypeName(type) else { return nil }
        // A bound generic class is mangled as the class, `y`, its arguments and `G`. The last "Cy" marks the arguments, because the only
        // argument is the actor system, whose name has none.
        guard name.hasSuffix("G") else { return name.hasSuffix("C") ? "$s" + name : nil }
        let characters = Array(name.utf8)
        for index in characters.indices.dropLast().reversed()
        where characters[index] == UInt8(ascii: "C") && characters[index + 1] == UInt8(ascii: "y") {
            return "$s" + String(decoding: characters[...index], as: UTF8.self)
        }
        return nil
    }

    /// The protocol `Module.Name` of the stub `Module.$Name`: only for types of this program, never for a name from outside.
    private static func protocolOfStub(_ stub: any Any.Type) -> (any Any.Type)? {
        let name = _typeName(stub, qualified: true).prefix { $0 != "<" }
        let parts = name.split(separator: ".")
        guard parts.count == 2, parts[1].hasPrefix("$") else { return nil }
        let (module, plain) = (parts[0], parts[1].dropFirst())
        return _typeByName("\(module.utf8.count)\(module)\(plain.utf8.count)\(plain)_p")
    }

    private static func conforms(_ actor: any DistributedActor, to existential: any Any.Type) -> Bool {
        func check<Existential>(_ type: Existential.Type) -> Bool { (actor as Any) is Existential }
        return check(existential)
    }

    /// Whether an identifier is a method of this class without generic parameters.
    func contains(_ identifier: String) -> Bool {
        !prefix.isEmpty && identifier.utf8.count <= Self.maximumIdentifierBytes && identifier.hasPrefix(prefix)
            // `async throws`, like every distributed method called remotely. A generic signature would precede the `F`, and the runtime
            // misreads memory for a protocol's method that has one.
            && identifier.hasSuffix("YaKFTE")
            && identifier.utf8.allSatisfy { Self.isOfIdentifiers($0) }
            && identifier.utf8.dropFirst(prefix.utf8.count).first.map { (0x30...0x39).contains($0) } == true
            && Self.isInThisProgram(identifier)
    }

    private static let maximumIdentifierBytes = 2000

    /// Whether this program has a distributed method with this identifier. Otherwise the runtime would look up all types named in the
    /// identifier first, which a peer chooses.
    private static func isInThisProgram(_ identifier: String) -> Bool {
        var identifier = identifier
        return identifier.withUTF8 { bytes in
            bytes.baseAddress.map { findAccessibleFunction($0, bytes.count) != nil } ?? false
        }
    }

    private static func isOfIdentifiers(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "$"): true
        default: false
        }
    }
}

/// Decides about every request before it is passed to the runtime.
struct Exports: Sendable {
    enum Decision: Sendable {
        case run(identifier: String, substitutions: [any Any.Type])
        /// There is no such method, or it may not be called.
        case unknown
    }

    private var interfaces: [ObjectIdentifier: [ExportedInterface]] = [:]
    private var typeNames: [ObjectIdentifier: String] = [:]
    /// The identifiers of methods by name; overloaded methods have several.
    private var identifiers: [String: Set<String>] = [:]

    init(_ exports: [Export]) {
        for export in exports {
            interfaces[export.type, default: []].append(export.interface)
            typeNames[export.type] = export.typeName
        }
    }

    /// Records the identifier of a method name.
    mutating func learn(name: String, identifier: String) {
        identifiers[name, default: []].insert(identifier)
    }

    /// Whether methods of this name were listed.
    func knows(_ name: String) -> Bool { identifiers[name] != nil }

    /// Decides what to run for a request.
    ///
    /// - Parameters:
    ///   - actor: The target actor.
    ///   - name: The method's name in the request.
    ///   - target: The method's identifier, if the request has one.
    func decide(for actor: any DistributedActor, name: String?, target: String?) -> Decision {
        let interfaces = interfaces[ObjectIdentifier(type(of: actor))] ?? []
        guard let target else { return byName(name, actor, interfaces, except: nil) }
        return run(target, actor, interfaces) ?? byName(name, actor, interfaces, except: target)
    }

    /// Decides what to run instead of an identifier that does not exist: another version of the contract has another identifier for the
    /// same name.
    func decideInstead(of target: String, for actor: any DistributedActor, name: String?) -> Decision {
        byName(name, actor, interfaces[ObjectIdentifier(type(of: actor))] ?? [], except: target)
    }

    private func byName(
        _ name: String?,
        _ actor: any DistributedActor,
        _ interfaces: [ExportedInterface],
        except target: String?
    ) -> Decision {
        let candidates = name.flatMap { identifiers[$0] } ?? []
        let found = candidates.compactMap { $0 == target ? nil : run($0, actor, interfaces) }
        // With several identifiers it is ambiguous.
        return found.count == 1 ? found[0] : .unknown
    }

    private func run(
        _ identifier: String,
        _ actor: any DistributedActor,
        _ interfaces: [ExportedInterface]
    ) -> Decision? {
        guard let interface = interfaces.first(where: { $0.contains(identifier) && $0.accepts(actor) }) else {
            return nil
        }
        return .run(identifier: identifier, substitutions: interface.substitutions)
    }
}

/// The name of a method on the wire: `Teller.transfer(_:note:)`, without module and `$`.
enum MethodName {
    static func of(_ target: RemoteCallTarget) -> String {
        // "Module.$Protocol.method(label:)", or with "<System>" after a generic stub; the identifier itself if it cannot be parsed.
        let text = target.description
        guard let parenthesis = text.firstIndex(of: "(") else { return text }
        let path = text[..<parenthesis].split(separator: ".", omittingEmptySubsequences: false)
        guard path.count >= 3, let method = path.last else { return text }
        var type = path[path.count - 2]
        if type.hasPrefix("$") { type = type.dropFirst() }
        return "\(type.prefix { $0 != "<" }).\(method)\(text[parenthesis...])"
    }
}
