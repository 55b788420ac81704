/// The Erlang distribution of a cluster's node, on its own port of 127.0.0.1, without epmd.
///
/// The port is part of the node's name, so that no lookup is needed. Joining requires the cookie, which is in a file that only this user
/// can read, and is created for each cluster.
struct Distribution: Sendable {
    let port: Int
    let cookie: String
    /// The node that the others join at their first start; for that node, itself.
    let founder: Int

    var nodeName: String { Self.nodeName(port) }

    static func nodeName(_ port: Int) -> String { "rabbit-\(port)@localhost" }

    /// Lines of `rabbitmq.conf`.
    var configuration: String {
        let names = founder == port ? [port] : [founder, port]
        let nodes = names.enumerated().map { index, port in
            "cluster_formation.classic_config.nodes.\(index + 1) = \(Self.nodeName(port))"
        }
        return (["cluster_formation.peer_discovery_backend = classic_config"] + nodes).joined(separator: "\n")
    }

    /// The arguments of the node's Erlang VM. RabbitMQ asks OTP's own `erl_epmd` for its port during boot, whatever module replaces it:
    /// `-erl_epmd_port` is the answer. ``start(folder:)`` starts the distribution, because the module that replaces epmd must be loaded
    /// before.
    var arguments: [String] {
        [
            "-erl_epmd_port", "\(port)",
            "-kernel", "inet_dist_listen_min", "\(port)", "inet_dist_listen_max", "\(port)",
        ]
    }

    /// The flags of every Erlang VM that the node starts. Since RabbitMQ 4.0, a node checks for the others through a second VM, which has
    /// to find them without epmd as well.
    static func flags(folder: String) -> String {
        "-start_epmd false -epmd_module \(module) -pa '\(folder)' -kernel inet_dist_use_interface {127,0,0,1}"
    }

    static let module = "local_broker_epmd"

    /// The expression that the node evaluates first. The compiled module stays in the folder, for ``flags(folder:)``.
    func start(folder: String) -> String {
        """
        {ok, E} = compile:file("\(folder)/\(Self.module)", [{outdir, "\(folder)"}]), \
        {module, E} = code:load_abs("\(folder)/\(Self.module)"), \
        {ok, _} = net_kernel:start(['\(nodeName)', shortnames]).
        """
    }

    /// Replaces OTP's `erl_epmd`, which asks a daemon for the port of a name.
    static let source = #"""
        -module(local_broker_epmd).
        -export([start_link/0, register_node/2, register_node/3, port_please/2, port_please/3, listen_port_please/2,
                 address_please/3, names/0, names/1]).

        start_link() -> ignore.

        %% The number tells one incarnation of a node from another.
        register_node(Name, Port) -> register_node(Name, Port, inet).
        register_node(_, _, _) -> {ok, 4 + erlang:system_time(second) rem 1000000000}.

        %% 6 is the version of the distribution protocol.
        port_please(Name, Host) -> port_please(Name, Host, infinity).
        port_please(Name, _, _) ->
            case port(Name) of
                none -> noport;
                Port -> {port, Port, 6}
            end.

        listen_port_please(Name, _) -> {ok, port(Name)}.

        address_please(_, _, _) -> {ok, {127, 0, 0, 1}}.

        names() -> names(localhost).
        names(_) -> {ok, []}.

        %% The name is "rabbit-25001" or "rabbit-25001@localhost".
        port(Name) when is_atom(Name) -> port(atom_to_list(Name));
        port(Name) ->
            [Short | _] = string:split(Name, "@"),
            %% RabbitMQ also asks for nodes that it has made up, which are nowhere.
            try
                [_, Port] = string:split(Short, "-", trailing),
                list_to_integer(Port)
            catch
                error:_ -> none
            end.
        """#
}
