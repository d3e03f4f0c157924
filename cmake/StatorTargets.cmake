# Target functions. Every library is one folder; while a folder holds no .c file yet, its target is
# an interface library, so that the tree configures in any state.

# st_add_library(NAME SOURCES <file>... LINK <target>...)
function(st_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
  if(arg_SOURCES)
    add_library(${name} STATIC ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${ST_LTO_COMPILE})
    target_link_libraries(${name} PUBLIC st_flags ${arg_LINK})
    add_dependencies(${name} st_version)
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE st_flags ${arg_LINK})
  endif()
endfunction()

# st_add_kind_library(trigger|runtime): the library of the calling folder; extra LINK targets follow.
function(st_add_kind_library role)
  get_filename_component(kind "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.c")
  st_add_library(st_${role}_${kind} SOURCES ${sources} LINK st_processor ${ARGN})
  set_property(GLOBAL APPEND PROPERTY ST_KIND_TARGETS st_${role}_${kind})
endfunction()

# st_add_kinds(trigger|runtime): one library for every folder that holds a .c file or a
# CMakeLists.txt. A kind needs its own CMakeLists.txt only for more than plain sources.
macro(st_add_kinds role)
  file(GLOB _st_dirs CONFIGURE_DEPENDS LIST_DIRECTORIES true "${CMAKE_CURRENT_SOURCE_DIR}/*")
  foreach(_st_dir ${_st_dirs})
    if(EXISTS "${_st_dir}/CMakeLists.txt")
      add_subdirectory("${_st_dir}")
    elseif(IS_DIRECTORY "${_st_dir}")
      file(GLOB _st_sources CONFIGURE_DEPENDS "${_st_dir}/*.c")
      if(_st_sources)
        get_filename_component(_st_kind "${_st_dir}" NAME)
        st_add_library(st_${role}_${_st_kind} SOURCES ${_st_sources} LINK st_processor)
        set_property(GLOBAL APPEND PROPERTY ST_KIND_TARGETS st_${role}_${_st_kind})
      endif()
    endif()
  endforeach()
endmacro()

# st_all: every library, for the binary and the tests. The registry names every kind, and the
# processor calls the registry: the linker has to look through these archives more than once.
# Then the binary itself.
function(st_add_executable)
  get_property(kinds GLOBAL PROPERTY ST_KIND_TARGETS)
  file(GLOB registry CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/processor/registry.c")
  st_add_library(st_registry SOURCES ${registry} LINK st_processor ${kinds})
  add_library(st_all INTERFACE)
  target_link_libraries(st_all INTERFACE st_registry)
  set(archives "")
  foreach(target st_registry st_processor ${kinds} st_net st_core)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
      list(APPEND archives ${target})
    endif()
  endforeach()
  list(LENGTH archives count)
  if(count GREATER 1)
    list(JOIN archives "," archives)
    # The group swallows what its members link themselves: it is named again behind it.
    target_link_libraries(st_all INTERFACE "$<LINK_GROUP:RESCAN,${archives}>" llhttp
                                           PkgConfig::DEPS st_flags)
  endif()

  if(ST_SANITIZE STREQUAL "tsan")
    # In each program, exported to the libraries that it loads.
    target_sources(st_all INTERFACE "${PROJECT_SOURCE_DIR}/tests/support/tsan/c11_threads.c")
    target_link_options(
      st_all INTERFACE LINKER:--export-dynamic-symbol=thrd_* LINKER:--export-dynamic-symbol=mtx_*
      LINKER:--export-dynamic-symbol=cnd_*)
  endif()

  file(GLOB main CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/processor/main.c")
  if(NOT main OR ST_FUZZ)
    return()
  endif()
  add_executable(stator ${main})
  set_target_properties(stator PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}"
                                          ST_LTO ON)
  target_compile_options(stator PRIVATE ${ST_LTO_COMPILE})
  target_link_options(stator PRIVATE ${ST_LTO_LINK})
  target_link_libraries(stator PRIVATE st_all)
  if(ST_JEMALLOC)
    target_link_libraries(stator PRIVATE PkgConfig::JEMALLOC)
  endif()
  # What it runs.
  add_dependencies(stator st_version stator-exec stator-native-host st_python_native)
endfunction()

# st_add_handler(TARGET SOURCE DIR): a native handler as <DIR>/<name>.so. A handler sees the public
# header and libc, nothing else of ours, and is C99.
function(st_add_handler target source dir)
  get_filename_component(name "${source}" NAME_WE)
  add_library(${target} MODULE "${source}")
  set_target_properties(
    ${target}
    PROPERTIES PREFIX ""
               OUTPUT_NAME "${name}"
               LIBRARY_OUTPUT_DIRECTORY "${dir}"
               C_STANDARD 99
               C_EXTENSIONS ON)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/runtimes/native/include")
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow
                                           $<$<BOOL:${ST_WERROR}>:-Werror>)
  target_link_libraries(${target} PRIVATE st_instrument Threads::Threads)
endfunction()

# docs/examples/<dir>/<name>.c -> <build>/examples/<dir>/<name>.so; target "examples" makes all.
function(st_add_examples)
  add_custom_target(examples)
  if(ST_FUZZ)
    return()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/docs/examples/*/*.c")
  foreach(source ${sources})
    get_filename_component(dir "${source}" DIRECTORY)
    get_filename_component(dir "${dir}" NAME)
    get_filename_component(name "${source}" NAME_WE)
    st_add_handler(example_${dir}_${name} "${source}" "${PROJECT_BINARY_DIR}/examples/${dir}")
    add_dependencies(examples example_${dir}_${name})
  endforeach()
endfunction()
