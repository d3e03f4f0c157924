# install(): the binary, what it runs, its completion for bash, the Python packages, the public header
# with its pkg-config file and CMake package, the licence.
# Header-only parts are independent of the architecture and find their prefix from where they lie.

include(CMakePackageConfigHelpers)

if(TARGET stator)
  install(TARGETS stator RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  install(TARGETS stator-exec stator-native-host RUNTIME DESTINATION "${CMAKE_INSTALL_LIBEXECDIR}/stator")
  install(
    FILES "${PROJECT_SOURCE_DIR}/processor/cli/stator.bash"
    DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions"
    RENAME stator)
endif()

set(_st_header "${PROJECT_SOURCE_DIR}/runtimes/native/include/stator/handler.h")
install(FILES "${_st_header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/stator" OPTIONAL)
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

# Compiled too, because workers do not write beside their code; a Python of another version compiles
# in memory at each start.
get_property(_st_python_files GLOBAL PROPERTY ST_PYTHON_FILES)
set(_st_python_dir "${CMAKE_INSTALL_LIBDIR}/stator/python")
foreach(_file ${_st_python_files})
  get_filename_component(_folder "${_file}" DIRECTORY)
  install(FILES "${PROJECT_SOURCE_DIR}/runtimes/python/lib/${_file}"
          DESTINATION "${_st_python_dir}/${_folder}")
endforeach()
find_package(Python3 COMPONENTS Interpreter)
if(Python3_Interpreter_FOUND)
  install(
    CODE "execute_process(COMMAND \"${Python3_EXECUTABLE}\" -m compileall -q -s \"\$ENV{DESTDIR}\" -p /
      --invalidation-mode checked-hash
      \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${_st_python_dir}\")")
endif()

configure_file("${PROJECT_SOURCE_DIR}/cmake/stator-handler.pc.in"
               "${PROJECT_BINARY_DIR}/generated/stator-handler.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/generated/stator-handler.pc"
        DESTINATION "${CMAKE_INSTALL_DATADIR}/pkgconfig")

add_library(StatorHandler INTERFACE)
target_include_directories(StatorHandler INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set(_st_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/StatorHandler")
install(TARGETS StatorHandler EXPORT StatorHandlerTargets)
install(EXPORT StatorHandlerTargets NAMESPACE StatorHandler:: DESTINATION "${_st_package_dir}")
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/StatorHandlerConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfig.cmake"
  INSTALL_DESTINATION "${_st_package_dir}"
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfigVersion.cmake"
  COMPATIBILITY SameMajorVersion
  ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfig.cmake"
              "${PROJECT_BINARY_DIR}/generated/StatorHandlerConfigVersion.cmake"
        DESTINATION "${_st_package_dir}")
